//! The connections of one worker to one provider.
//!
//! Promises: a call finds an open connection unless all are busy; a connection that was opened
//! for a call that left is kept for the next; a connection is used again only when its answer
//! was read to the end. No lock: queues and pointers are atomic.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use hyper::client::conn::{http1, http2};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::body::OutBody;
use super::connect::{ConnectError, Dialer, Sender};
use crate::tasks::Tasks;

/// Calls on one HTTP/2 connection before another is opened; servers commonly allow 100 to 250.
const STREAMS: usize = 100;

/// Longest wait for the HTTP/2 connection that another call opens; then this one opens its own.
const ANOTHERS: Duration = Duration::from_millis(500);

/// Cancelled calls after which an HTTP/2 connection gets no new ones: servers take many resets
/// for an attack (rapid reset, CVE-2023-44487) and close the connection under the other calls.
const CANCELS: usize = 100;

/// Calls given up or refused in a row without a head of an answer after which an HTTP/2 connection gets no new
/// ones: it may allow no streams, or lead nowhere, while another would do.
const FRUITLESS: usize = 4;

/// Connections that go on being opened after their calls left, for the next: where none comes about, they
/// would pile up.
const UNWANTED: usize = 16;

/// A connection that many calls share.
pub struct Shared {
    sender: http2::SendRequest<OutBody>,
    running: AtomicUsize,
    cancels: AtomicUsize,
    /// Calls given up or refused since it last answered.
    fruitless: AtomicUsize,
}

impl Shared {
    fn usable(&self) -> bool {
        !self.sender.is_closed()
            && self.cancels.load(Ordering::Relaxed) < CANCELS
            && self.fruitless.load(Ordering::Relaxed) < FRUITLESS
    }
}

struct Idle {
    sender: http1::SendRequest<OutBody>,
    since: Instant,
}

/// What a pool keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections kept open before a call needs them.
    pub warm: usize,
    /// Idle connections at most.
    pub idle: usize,
    /// An idle connection beyond `warm` is closed after this.
    pub idle_timeout: Duration,
}

/// The connections.
pub struct Pool {
    dialer: Arc<Dialer>,
    tasks: Tasks,
    bounds: Bounds,
    idle: ArrayQueue<Idle>,
    /// The fewest that were idle at once since `began`: so many are not needed. They take turns, so that
    /// none of them grows old.
    fewest: AtomicUsize,
    began: ArcSwap<Instant>,
    shared: ArcSwap<Vec<Arc<Shared>>>,
    speaks_http2: AtomicBool,
    /// One HTTP/2 connection is opened at a time: those who wait may share it.
    opening: Semaphore,
    /// Connections that are being opened for nobody any more.
    unwanted: Semaphore,
    open: Arc<AtomicUsize>,
}

/// Counts a connection while its driver lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to send one call on a connection. Dropped before `finish`: an HTTP/1.1 connection
/// is closed, an HTTP/2 stream is reset.
pub struct Lease {
    connection: Option<Connection>,
    /// A call was sent over HTTP/2, and the head of its answer did not come yet.
    waits: bool,
    pool: Arc<Pool>,
}

enum Connection {
    Http1(http1::SendRequest<OutBody>),
    Http2(Arc<Shared>),
}

impl Pool {
    /// An empty pool.
    pub fn new(dialer: Arc<Dialer>, tasks: Tasks, bounds: Bounds) -> Self {
        Self {
            speaks_http2: AtomicBool::new(dialer.only_http2()),
            dialer,
            tasks,
            bounds,
            idle: ArrayQueue::new(bounds.idle.max(1)),
            fewest: AtomicUsize::new(0),
            began: ArcSwap::from_pointee(Instant::now()),
            shared: ArcSwap::default(),
            opening: Semaphore::new(1),
            unwanted: Semaphore::new(UNWANTED),
            open: Arc::default(),
        }
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// An open connection, or a new one within `patience`.
    pub async fn checkout(self: &Arc<Self>, patience: Duration) -> Result<Lease, ConnectError> {
        if let Some(lease) = self.take() {
            return Ok(lease);
        }
        // In a task of its own: a call that leaves must not take the connection with it that
        // others wait for (hyper #3199).
        let (give, taken) = oneshot::channel();
        self.tasks.spawn(self.clone().open_for(give));
        match tokio::time::timeout(patience, taken).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(ConnectError::Failed("the gateway is stopping".into())),
            Err(_) => Err(ConnectError::TimedOut(patience)),
        }
    }

    /// An open connection that can take a call now.
    fn take(self: &Arc<Self>) -> Option<Lease> {
        let connection = self.take_shared().or_else(|| self.take_idle())?;
        Some(Lease {
            connection: Some(connection),
            waits: false,
            pool: self.clone(),
        })
    }

    fn take_shared(&self) -> Option<Connection> {
        if !self.speaks_http2.load(Ordering::Relaxed) {
            return None;
        }
        let shared = self.shared.load();
        let best = shared
            .iter()
            .filter(|one| one.usable())
            .min_by_key(|one| one.running.load(Ordering::Relaxed))?;
        if best.running.load(Ordering::Relaxed) >= STREAMS {
            return None;
        }
        best.running.fetch_add(1, Ordering::Relaxed);
        Some(Connection::Http2(best.clone()))
    }

    fn take_idle(&self) -> Option<Connection> {
        // A connection whose last request is still being sent is not ready: the next may be.
        for _ in 0..self.idle.len().min(4) {
            let Some(idle) = self.idle.pop() else {
                break;
            };
            if idle.sender.is_ready() {
                self.fewest.fetch_min(self.idle.len(), Ordering::Relaxed);
                return Some(Connection::Http1(idle.sender));
            }
            if !idle.sender.is_closed() {
                let _ = self.idle.push(idle);
            }
        }
        self.fewest.store(0, Ordering::Relaxed);
        None
    }

    /// Opens a connection for a call, or for the next one where that leaves.
    async fn open_for(self: Arc<Self>, mut give: oneshot::Sender<Result<Lease, ConnectError>>) {
        let mut opening = pin!(self.clone().open_one());
        let opened = tokio::select! {
            biased;
            opened = &mut opening => opened,
            () = give.closed() => {
                let Ok(_place) = self.unwanted.try_acquire() else {
                    return;
                };
                opening.await
            }
        };
        if let Err(Ok(lease)) = give.send(opened) {
            lease.finish(Instant::now());
        }
    }

    async fn open_one(self: Arc<Self>) -> Result<Lease, ConnectError> {
        let _permit = if self.speaks_http2.load(Ordering::Relaxed) {
            let permit = tokio::time::timeout(ANOTHERS, self.opening.acquire()).await;
            if let Some(lease) = self.take() {
                return Ok(lease);
            }
            permit.ok()
        } else {
            None
        };
        let connection = match self.dialer.dial(Open::new(&self.open)).await? {
            Sender::Http1(sender) => Connection::Http1(sender),
            Sender::Http2(sender) => Connection::Http2(self.share(sender)),
        };
        Ok(Lease {
            connection: Some(connection),
            waits: false,
            pool: self.clone(),
        })
    }

    fn share(&self, sender: http2::SendRequest<OutBody>) -> Arc<Shared> {
        let new = Arc::new(Shared {
            sender,
            running: AtomicUsize::new(1),
            cancels: AtomicUsize::new(0),
            fruitless: AtomicUsize::new(0),
        });
        self.shared.rcu(|all| {
            let mut next: Vec<_> = all.iter().filter(|one| one.usable()).cloned().collect();
            next.push(new.clone());
            next
        });
        self.speaks_http2.store(true, Ordering::Relaxed);
        new
    }

    /// Closes what was more than enough for a whole `idle_timeout`: what a burst opened is not kept
    /// for ever because calls take turns on it.
    fn shrink(&self, now: Instant) {
        if now.duration_since(**self.began.load()) < self.bounds.idle_timeout {
            return;
        }
        self.began.store(Arc::new(now));
        let unneeded = self.fewest.swap(self.idle.len(), Ordering::Relaxed);
        for _ in 0..unneeded
            .min(self.idle.len())
            .saturating_sub(self.bounds.warm)
        {
            drop(self.idle.pop());
        }
    }

    /// Closes what was idle too long, and begins to open what is missing to `warm`; meant for once a
    /// second. Looks the name up too, so that it is known when a call needs it. Waits for nothing.
    pub fn tend(self: &Arc<Self>) {
        self.tidy();
        // Those that are being opened count.
        for _ in self.open()..self.bounds.warm {
            let pool = self.clone();
            self.tasks.spawn(async move {
                if let Ok(lease) = pool.open_one().await {
                    lease.finish(Instant::now());
                }
            });
        }
        self.dialer.look_up();
    }

    /// Closes what is idle for too long, and opens none.
    pub fn tidy(&self) {
        let now = Instant::now();
        self.shrink(now);
        for _ in 0..self.idle.len() {
            let Some(idle) = self.idle.pop() else { break };
            let spare = self.idle.len() >= self.bounds.warm;
            let old = now.duration_since(idle.since) >= self.bounds.idle_timeout;
            if !(idle.sender.is_closed() || spare && old) {
                let _ = self.idle.push(idle);
            }
        }
        let all = self.shared.load();
        if all.iter().any(|one| !one.usable()) {
            self.shared.rcu(|all| {
                let usable = all.iter().filter(|one| one.usable()).cloned();
                usable.collect::<Vec<_>>()
            });
        }
    }
}

/// Why a call could not be sent, or got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent; here it is again.
    #[error("the connection was closed before anything was sent")]
    NotSent(Box<http::Request<OutBody>>),
    /// It may have been sent.
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
}

impl Lease {
    /// Sends a call and waits for the head of its answer.
    pub async fn send(
        &mut self,
        request: http::Request<OutBody>,
    ) -> Result<http::Response<hyper::body::Incoming>, SendError> {
        let sent = match self.connection.as_mut() {
            Some(Connection::Http1(sender)) => sender.try_send_request(request).await,
            Some(Connection::Http2(shared)) => {
                let mut sender = shared.sender.clone();
                self.waits = true;
                let sent = sender.try_send_request(request).await;
                self.waits = sent.is_err();
                if !self.waits {
                    shared.fruitless.store(0, Ordering::Relaxed);
                }
                sent
            }
            None => return Err(SendError::NotSent(Box::new(request))),
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::NotSent(Box::new(request)),
            None => SendError::Broken(error.into_error()),
        })
    }

    /// Whether the connection speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self.connection, Some(Connection::Http2(_)))
    }

    /// The answer was read to its end: the connection can take the next call.
    pub fn finish(mut self, now: Instant) {
        match self.connection.take() {
            Some(Connection::Http1(sender)) if !sender.is_closed() => {
                let since = now;
                // A full queue closes the connection: it was one too many.
                let _ = self.pool.idle.push(Idle { sender, since });
            }
            Some(Connection::Http2(shared)) => {
                shared.running.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(Connection::Http2(shared)) = self.connection.take() {
            shared.running.fetch_sub(1, Ordering::Relaxed);
            shared.cancels.fetch_add(1, Ordering::Relaxed);
            if self.waits {
                shared.fruitless.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
