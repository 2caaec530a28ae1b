//! Sockets of callers: accept, TLS, HTTP/1.1 and HTTP/2, drain.
//!
//! Promises: every connection is a task that a drain waits for; no head is awaited for ever; past
//! `limits.connections` new ones wait in the accept queue. Knows nothing of routes.

mod admin;
mod begun;
mod certificate;
mod spare;
mod validity;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::admin::Secure;
use self::begun::Begun;
pub use self::certificate::{Certificate, LOOK, Ready};
use self::spare::Spare;
use crate::config::Limits;
use crate::hot::{AnswerBody, Worker};
use crate::tasks::{Signal, Tasks};

/// Connections that the system holds before they are accepted.
const BACKLOG: i32 = 4_096;

/// Binds an address so that every worker can have a listener of its own on it.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One worker's listener.
pub struct Listener {
    /// Serves its calls.
    pub worker: Arc<Worker>,
    /// Bounds.
    pub limits: Limits,
    /// TLS, where it is configured.
    pub tls: Option<Arc<Certificate>>,
    /// Owner of its connections.
    pub tasks: Tasks,
    /// Stops accepting, and ends connections after their running calls.
    pub stop: Signal,
}

impl Listener {
    /// Accepts until it is stopped.
    pub async fn run(self, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let this = Arc::new(self);
        let mut spare = Spare::take();
        loop {
            let place = places.clone().acquire_owned();
            let accepted = tokio::select! {
                () = this.stop.raised() => return Ok(()),
                accepted = async { (place.await, listener.accept().await) } => accepted,
            };
            let (place, stream) = match accepted {
                (Ok(place), Ok((stream, _))) => (place, stream),
                // Out of descriptors, or the caller left already: neither ends the listener.
                (_, Err(error)) => {
                    spare.after(&error, &listener).await;
                    continue;
                }
                (Err(_), _) => continue,
            };
            let connection = this.clone();
            this.tasks.spawn(async move {
                let _place = place;
                connection.serve(stream).await;
            });
        }
    }

    async fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.speak(stream).await,
            Some(certificate) => {
                if let Some(stream) = certificate.shake(stream).await {
                    self.speak(stream).await;
                }
            }
        }
    }

    /// Serves one caller's connection, whatever it is made of, until it ends or is to stop.
    pub async fn speak<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = self.builder();
        let (worker, begun) = (self.worker.clone(), Begun::default());
        let first = begun.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            first.set();
            let worker = worker.clone();
            async move {
                let response: Response<AnswerBody> = worker.serve(request).await;
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // The head's own time runs only once it is known which protocol the connection speaks.
        let time = self.limits.head_timeout.get();
        let served = self.stop.unless(begun.within(time, connection.as_mut()));
        if served.await.is_none() {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }

    fn builder(&self) -> Builder<Tasks> {
        let limits = &self.limits;
        let head = u32::try_from(limits.head.0).unwrap_or(u32::MAX);
        let mut builder = Builder::new(self.tasks.clone());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout.get())
            .max_headers(limits.headers)
            .max_buf_size(limits.head.bytes().max(8_192));
        builder
            .http2()
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(head)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        builder
    }
}
