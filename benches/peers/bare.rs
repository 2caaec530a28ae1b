//! A bare proxy: hyper in, hyper out, one connection to the provider for each caller's, one thread.
//! `benches/figures/cost.rs` runs the same in its own process.

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
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, provider: SocketAddr) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = connections.join_next(), if !connections.is_empty() => continue,
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
