//! Hears what other gateways wrote.
//!
//! Promises: whoever waits for a job, here or by a stream, hears of what became of it wherever it
//! ran; a job that ended elsewhere stops here; after a gap everything is looked at again. News only
//! wake: what is true is read from the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Runner;
use crate::cold::job::{Job, JobId};
use crate::cold::store::{News, StoreError};

/// Whoever waits looks so often by itself where other gateways write, should their news be late.
const LOOK: Duration = Duration::from_secs(2);

impl Runner {
    /// Listens as long as the store is open.
    pub async fn listen(self: Arc<Self>) {
        let Some(mut feed) = self.parts.store.news() else {
            return;
        };
        self.shared.store(true, Ordering::Relaxed);
        while let Some(news) = feed.recv().await {
            self.hear(news);
        }
    }

    fn hear(&self, news: News) {
        match news {
            News::Due(name) => {
                if let Some(route) = self.route(&name) {
                    self.wake_for(&route);
                }
            }
            News::Changed(id) => {
                self.doubt(&id);
                self.tapes.touch(&id);
            }
            News::Ended(id) => {
                // An operator may have begun it anew since: what runs is looked up, not stopped.
                self.doubt(&id);
                self.waiters.wake(&id);
                self.tapes.touch(&id);
            }
            News::Callback => self.parts.callbacks.notify_one(),
            News::Missed => {
                self.runs.doubt_all();
                self.lease.look();
                self.waiters.wake_all();
                self.tapes.touch_all();
                self.wake_all();
                self.parts.callbacks.notify_one();
            }
        }
    }

    /// The job once it is finished, or as it stands after the wait.
    pub async fn awaited(&self, id: &JobId, wait: Duration) -> Result<Option<Job>, StoreError> {
        let until = Instant::now() + wait;
        let waiter = self.waiters.of(id);
        loop {
            let notified = waiter.notify.notified();
            tokio::pin!(notified);
            // Listening before looking: an end in between is not missed.
            notified.as_mut().enable();
            let job = self.parts.store.get(id).await?;
            let over = job.as_ref().is_none_or(|job| job.status.is_final());
            if over || Instant::now() >= until {
                return Ok(job);
            }
            let shared = self.shared.load(Ordering::Relaxed);
            let look = Instant::now() + LOOK;
            let next = if shared { until.min(look) } else { until };
            let _ = timeout_at(next, notified).await;
        }
    }
}
