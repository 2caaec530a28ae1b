//! Upgraded connections (WebSocket): bytes in both directions until one side ends.
//!
//! Promises: tunnels are counted and bounded; each is a task that a drain waits for; when one
//! side closes, the other is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::tasks::Tasks;

/// Whether a request asks for another protocol.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let asks = |line: &http::HeaderValue| {
        line.as_bytes()
            .to_ascii_lowercase()
            .windows(7)
            .any(|part| part == b"upgrade")
    };
    headers.contains_key(UPGRADE) && headers.get_all(CONNECTION).iter().any(asks)
}

/// Tunnels open in one worker.
#[derive(Default)]
pub struct Tunnels(Arc<AtomicUsize>);

/// One of them.
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tunnels {
    /// A place for one more, or none.
    pub fn enter(&self, limit: usize) -> Option<Place> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= limit {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(self.0.clone()))
    }
}

/// Joins both sides once both have switched.
pub fn join<B>(tasks: &Tasks, caller: OnUpgrade, provider: Response<B>, place: Place)
where
    B: Send + 'static,
{
    let provider = hyper::upgrade::on(provider);
    tasks.spawn(async move {
        let _place = place;
        let (Ok(caller), Ok(provider)) = tokio::join!(caller, provider) else {
            return;
        };
        let (mut caller, mut provider) = (TokioIo::new(caller), TokioIo::new(provider));
        let _ = tokio::io::copy_bidirectional(&mut caller, &mut provider).await;
    });
}
