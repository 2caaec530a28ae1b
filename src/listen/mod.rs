//! Sockets of callers and operators: accept, TLS, HTTP/1.1 and HTTP/2, drain.
//!
//! Promises: every connection is a task that a drain waits for; no head is awaited for ever; past
//! `limits.connections` new ones wait in the accept queue. Knows nothing of routes.

mod activity;
mod addresses;
mod answers;
mod certificate;
mod spare;
mod validity;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::activity::{Activity, Counted, Over};
use self::addresses::Addresses;
pub use self::answers::Answers;
pub use self::certificate::{Certificate, LOOK, Ready};
use self::spare::Spare;
pub use self::validity::Validity;
use crate::config::Limits;
use crate::hot::Worker;
use crate::meter::Refused;
use crate::tasks::{Signal, Tasks};
use crate::upstream::connect::tune;

/// Connections that the system holds before they are accepted.
const BACKLOG: i32 = 4_096;

/// Said to a connection of an address that has too many already.
const CROWDED: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain\r\n\
    content-length: 62\r\nretry-after: 5\r\nconnection: close\r\n\r\n\
    too many connections of one address: limits.caller.per_address";

/// Who else may listen on an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// Nobody: another process there is an error.
    No,
    /// Every worker, with a listener of its own.
    WithWorkers,
}

/// Binds an address.
pub fn bind(address: SocketAddr, shared: Shared) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(shared == Shared::WithWorkers)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listener: one worker's for callers, or the one for operators.
pub struct Listener<A = Worker> {
    /// Answers what comes.
    pub answers: Arc<A>,
    /// Bounds.
    pub limits: Limits,
    /// What is counted of those that break a bound.
    pub refused: Refused,
    /// TLS, where it is configured.
    pub tls: Option<Arc<Certificate>>,
    /// Owner of its connections.
    pub tasks: Tasks,
    /// Stops accepting, and ends connections after their running calls.
    pub stop: Signal,
}

impl<A: Answers> Listener<A> {
    /// Accepts until it is stopped.
    pub async fn run(self, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let this = Arc::new(self);
        let mut spare = Spare::take();
        let addresses = Addresses::new(&this.limits.caller);
        loop {
            let place = places.clone().acquire_owned();
            let accepted = tokio::select! {
                () = this.stop.raised() => return Ok(()),
                accepted = async { (place.await, listener.accept().await) } => accepted,
            };
            let (place, stream, address) = match accepted {
                (Ok(place), Ok((stream, peer))) => (place, stream, peer.ip()),
                // Out of descriptors, or the caller left already: neither ends the listener.
                (_, Err(error)) => {
                    spare.after(&error, &listener).await;
                    continue;
                }
                (Err(_), _) => continue,
            };
            let Some(address) = addresses.enter(address) else {
                this.refused.address.increment(1);
                if this.tls.is_none() {
                    // As much as fits at once: nobody is waited for.
                    let _ = stream.try_write(CROWDED);
                }
                continue;
            };
            let connection = this.clone();
            this.tasks.spawn(async move {
                let _places = (place, address);
                connection.serve(stream).await;
            });
        }
    }

    async fn serve(&self, stream: TcpStream) {
        tune(&stream);
        match &self.tls {
            None => self.speak(stream).await,
            // Boxed, so that connections without TLS have no room for it.
            Some(certificate) => Box::pin(self.secured(certificate, stream)).await,
        }
    }

    async fn secured(&self, certificate: &Certificate, stream: TcpStream) {
        let limit = self.limits.head_timeout.get();
        if let Some(stream) = certificate.shake(stream, limit).await {
            self.speak(stream).await;
        }
    }

    /// Serves one connection, whatever it is made of, until it ends or is to stop.
    pub fn speak<S>(&self, stream: S) -> impl Future<Output = ()> + Send + use<'_, S, A>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (answers, activity) = (
            self.answers.clone(),
            Activity::new(self.limits.caller.cancels),
        );
        let calls = activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let running = calls.call();
            let answered = answers.clone().answer(request);
            async move {
                let response: Response<A::Body> = answered.await;
                Ok::<_, Infallible>(response.map(|body| Counted::new(body, running)))
            }
        });
        let builder = self.builder();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        // Boxed here, where it is made: else each block around it has room for it once more.
        self.drive(Box::pin(connection.into_owned()), activity)
    }

    async fn drive<C>(&self, mut connection: Pin<Box<C>>, activity: Activity)
    where
        C: GracefulConnection<Error = Box<dyn Error + Send + Sync>>,
    {
        // The head's own time runs only once it is known which protocol the connection speaks.
        let first = self.limits.head_timeout.get();
        let idle = self.limits.caller.idle.get();
        let watched = activity.watch(first, idle, connection.as_mut());
        match self.stop.unless(watched).await {
            Some(Ok(Err(error))) => self.count(&*error),
            Some(Ok(Ok(()))) => {}
            Some(Err(Over::Silent)) => self.refused.first_call.increment(1),
            Some(Err(Over::Flood)) => self.refused.cancels.increment(1),
            Some(Err(Over::Unread)) => self.refused.unread.increment(1),
            Some(Err(Over::Idle)) => {
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(first, connection).await;
            }
            None => {
                connection.as_mut().graceful_shutdown();
                // A call may be on its way to a connection that had none for long.
                activity.rests();
                // A half of a head is not waited for any longer than it was before.
                let _ = activity.watch(first, first, connection.as_mut()).await;
            }
        }
    }

    /// Counts a connection that ended badly, where that was by a bound.
    fn count(&self, error: &(dyn Error + 'static)) {
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_parse_too_large() => self.refused.head.increment(1),
            Some(error) if error.is_parse() => self.refused.malformed.increment(1),
            _ => {}
        }
    }

    fn builder(&self) -> Builder<Tasks> {
        let limits = &self.limits;
        let head = u32::try_from(limits.head.0).unwrap_or(u32::MAX);
        let mut builder = Builder::new(self.tasks.clone());
        builder
            .http1()
            // `Activity` bounds heads with one timer a connection: the first by `head_timeout`, a
            // later one by how long the connection may be without a call.
            .header_read_timeout(None)
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

#[cfg(test)]
mod tests {
    use super::Listener;
    use crate::weight::{any, at_most, of};

    #[test]
    fn a_connection_keeps_its_own_state_in_one_place() {
        at_most(544, of(|| <Listener>::serve(any(), any())));
    }
}
