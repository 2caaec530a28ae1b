//! A caller that calls no gateway: what this machine and this program add to a call by themselves, so that
//! a gateway is not blamed for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;

use crate::storm::{Connections, TAKES};

/// How long its calls take at a provider, in milliseconds, and the rest between them.
const TAKE: u64 = 20;
const REST: Duration = Duration::from_millis(30);

/// Less than this is none.
const LEAST: Duration = Duration::from_millis(20);

/// A call that took longer than it had to.
#[derive(Clone, Copy, Debug)]
struct Lag {
    from: Instant,
    until: Instant,
    late: Duration,
}

/// What it saw.
#[derive(Clone, Default)]
pub struct Control(Arc<Mutex<Vec<Lag>>>);

impl Control {
    /// Calls a provider, one call after the other, as long as its task lives.
    pub fn start(provider: SocketAddr, tasks: &mut JoinSet<()>) -> Self {
        let control = Self::default();
        let ours = control.clone();
        tasks.spawn(async move { ours.call(provider).await });
        control
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Lag>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(self, provider: SocketAddr) {
        let connections = Connections::default();
        loop {
            let from = Instant::now();
            let request = Request::post("/v1/chat/completions")
                .header("host", "control")
                .header(TAKES, TAKE)
                .body(Full::new(Bytes::new()));
            if let Ok(request) = request {
                let _ = connections.send(provider, request).await;
            }
            tokio::time::sleep(REST).await;
            let until = Instant::now();
            let must = Duration::from_millis(TAKE) + REST;
            let late = (until - from).saturating_sub(must);
            if late >= LEAST {
                self.seen().push(Lag { from, until, late });
            }
        }
    }

    /// How much this machine added to whatever went on between these moments.
    pub fn added(&self, from: Instant, until: Instant) -> Duration {
        let seen = self.seen();
        let beside = seen
            .iter()
            .filter(|lag| lag.from < until && lag.until > from);
        beside.map(|lag| lag.late).sum()
    }

    /// How often it was held up, and the longest.
    pub fn worst(&self) -> (usize, Duration) {
        let seen = self.seen();
        let worst = seen.iter().map(|lag| lag.late).max();
        (seen.len(), worst.unwrap_or_default())
    }
}
