//! Callers' connections to the gateway: in memory, served by the real listener's code.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::listen::Listener;
use crate::tasks::{Signal, Tasks};

type Http1 = http1::SendRequest<Full<Bytes>>;
type Http2 = http2::SendRequest<Full<Bytes>>;

/// HTTP/1.1 connections that callers keep for their next call.
const IDLE: usize = 6;

/// Calls after which a shared HTTP/2 connection is exchanged.
const CALLS: usize = 200;

/// The way in.
pub struct Entrance {
    listeners: Vec<Arc<Listener>>,
    tasks: Tasks,
    state: Mutex<State>,
}

struct State {
    random: StdRng,
    idle: Vec<(Http1, Signal)>,
    shared: Vec<(Http2, usize)>,
}

/// A connection that one call may use.
pub enum Link {
    /// Its own; raising the signal closes it.
    Http1(Http1, Signal),
    /// Shared with others.
    Http2(Http2),
}

impl Entrance {
    /// A way in to these workers; `tasks` own the callers' halves.
    pub fn new(listeners: Vec<Arc<Listener>>, tasks: Tasks, seed: u64) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            idle: Vec::new(),
            shared: Vec::new(),
        };
        Self {
            listeners,
            tasks,
            state: Mutex::new(state),
        }
    }

    /// Opens a connection to one of the workers.
    fn dial(&self) -> tokio::io::DuplexStream {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let size = [64, 1 << 10, 64 << 10][state.random.random_range(0..3)];
        let listener = state.random.random_range(0..self.listeners.len());
        let listener = self.listeners[listener].clone();
        let (ours, theirs) = tokio::io::duplex(size);
        let tasks = listener.tasks.clone();
        tasks.spawn(async move { listener.speak(theirs).await });
        ours
    }

    /// A connection for bytes of any kind.
    pub fn raw(&self) -> tokio::io::DuplexStream {
        self.dial()
    }

    /// A connection for one call; `None`: the gateway takes none any more.
    pub async fn link(&self, http2: bool) -> Option<Link> {
        if http2 {
            return self.shared().await.map(Link::Http2);
        }
        let idle = || {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.idle.pop()
        };
        while let Some((sender, close)) = idle() {
            if sender.is_ready() {
                return Some(Link::Http1(sender, close));
            }
        }
        let stream = TokioIo::new(self.dial());
        let (sender, driver) = http1::handshake(stream).await.ok()?;
        let close = Signal::default();
        let closes = close.clone();
        self.tasks.spawn(async move {
            let _ = closes.unless(driver).await;
        });
        Some(Link::Http1(sender, close))
    }

    async fn shared(&self) -> Option<Http2> {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state
                .shared
                .retain(|(one, calls)| !one.is_closed() && *calls < CALLS);
            if let Some((sender, calls)) = state.shared.first_mut() {
                *calls += 1;
                return Some(sender.clone());
            }
        }
        let stream = TokioIo::new(self.dial());
        let (sender, driver) = http2::handshake(self.tasks.clone(), stream).await.ok()?;
        self.tasks.spawn(async move {
            let _ = driver.await;
        });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shared.push((sender.clone(), 1));
        Some(sender)
    }

    /// The call is over: its connection takes the next.
    pub fn give_back(&self, link: Link) {
        let Link::Http1(sender, close) = link else {
            return;
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.is_ready() && state.idle.len() < IDLE {
            state.idle.push((sender, close));
        }
    }

    /// Closes what callers keep open.
    pub fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.idle.clear();
        state.shared.clear();
    }
}

impl Link {
    /// Sends a request.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender, _) => sender.send_request(request).await,
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Leaves: closes the connection, or resets the stream by being dropped with its answer.
    pub fn leave(self) {
        if let Self::Http1(_, close) = self {
            close.raise();
        }
    }
}
