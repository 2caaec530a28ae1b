//! A bare proxy: hyper in, hyper out, one connection to the provider for each caller's, one thread.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::Options;

pub async fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.need::<SocketAddr>("--listen")?).await?;
    let provider = options.to()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            // An orderly end, so that callgrind writes what it counted.
            _ = terminate.recv() => return Ok(()),
        };
        connections.spawn(pass(stream, provider));
    }
}

async fn pass(stream: TcpStream, provider: SocketAddr) -> Result<()> {
    stream.set_nodelay(true)?;
    let out = TcpStream::connect(provider).await?;
    out.set_nodelay(true)?;
    let (sender, driver) = client::handshake::<_, Incoming>(TokioIo::new(out)).await?;
    let mut drivers = JoinSet::new();
    drivers.spawn(driver);
    let sender = Arc::new(Mutex::new(sender));
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let mut sender = sender.lock().await;
            sender.ready().await?;
            sender.send_request(request).await
        }
    });
    server::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}
