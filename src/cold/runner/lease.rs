//! This gateway's lease on what it runs.
//!
//! The rule. A lease is renewed four times in a heartbeat and lasts one and a half: a gateway that
//! dies right after a renewal is missed 1.5 heartbeats later, found by another's renewal at most 0.25
//! later, and its jobs are claimed at once: 1.75 heartbeats, and the rest of two for the store.
//! By its own clock a gateway counts from when it asked, so that it knows of its loss no later than
//! the store. What it ran then is doubtful: it goes on, as nobody may have taken it, but nothing new
//! is claimed. As soon as the store answers again, each doubtful run is looked up: taken (the fence
//! moved) or ended, it is stopped; running under our fence, it is ours; queued, it goes on until it is
//! taken back here under the next fence (no second call is made) or taken by another (it is stopped).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::Runner;
use crate::cold::job::{JobId, UnixMillis};
use crate::cold::store::{Beat, StoreError};

/// Runs that are looked up at once.
const AT_ONCE: usize = 16;

/// The lengths of a lease.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    heartbeat: Duration,
}

impl Pulse {
    /// Those that `cold.heartbeat` makes.
    pub fn new(heartbeat: Duration) -> Self {
        Self { heartbeat }
    }

    /// How long what is renewed lasts.
    pub fn lease(self) -> Duration {
        self.heartbeat * 3 / 2
    }

    /// Between two renewals, and the longest wait for one.
    pub fn every(self) -> Duration {
        self.heartbeat / 4
    }

    /// Until a renewal that failed is tried again.
    fn again(self) -> Duration {
        self.heartbeat / 16
    }
}

/// What is known here of this gateway's lease.
#[derive(Default)]
pub(super) struct Lease {
    /// When it ends at the latest by our own clock; `None`: it did not begin.
    until: Mutex<Option<Instant>>,
    /// It ended, and was not renewed since.
    lost: AtomicBool,
    /// Raised when runs are to be looked up.
    doubt: Notify,
}

impl Lease {
    /// Whether what is taken now belongs to this gateway.
    pub fn holds(&self) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| Instant::now() < until)
    }

    fn renewed(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Runs are to be looked up.
    pub fn look(&self) {
        self.doubt.notify_one();
    }
}

impl Runner {
    /// Begins this gateway's lease; before anything else is written. Gives how many jobs of dead
    /// gateways were queued again.
    ///
    /// # Errors
    /// The store is not available.
    pub async fn begin(&self) -> Result<u64, StoreError> {
        let sent = Instant::now();
        let pulse = self.parts.pulse;
        let beat = self
            .parts
            .store
            .beat(pulse.lease(), UnixMillis::now())
            .await?;
        self.lease.renewed(sent + pulse.lease());
        self.count_rescued(beat.rescued);
        self.count_lost(0);
        Ok(beat.rescued)
    }

    /// Renews the lease and stops what was lost, as long as it is polled: through a drain too.
    pub async fn keep_lease(self: Arc<Self>) {
        tokio::join!(self.renew(), self.look_up());
    }

    async fn renew(&self) {
        let pulse = self.parts.pulse;
        let mut next = Instant::now() + pulse.every();
        loop {
            sleep_until(next).await;
            let sent = Instant::now();
            let beat = self.parts.store.beat(pulse.lease(), UnixMillis::now());
            match timeout(pulse.every(), beat).await {
                Ok(Ok(beat)) => {
                    self.lease_renewed(beat, sent + pulse.lease());
                    next = sent + pulse.every();
                }
                failed => {
                    if let Ok(Err(error)) = failed {
                        tracing::debug!(%error, "the lease was not renewed");
                    }
                    self.lease_missed();
                    next = Instant::now() + pulse.again();
                }
            }
        }
    }

    fn lease_renewed(&self, beat: Beat, until: Instant) {
        // It may have ended between the last look at our clock and this answer.
        let ended = !self.lease.holds();
        let known = self.lease.lost.swap(false, Ordering::AcqRel);
        if (beat.lost || ended) && !known {
            self.lease_was_lost();
        }
        self.lease.renewed(until);
        self.count_rescued(beat.rescued);
        if beat.lost || ended || known {
            // What nobody took is taken back first.
            self.runs.doubt_all();
            self.wake_all();
        } else if beat.rescued > 0 {
            self.wake_all();
        }
        // Those that were doubtful before, too: not all of it is told as news.
        self.lease.look();
    }

    fn lease_missed(&self) {
        if !self.lease.holds() && !self.lease.lost.swap(true, Ordering::AcqRel) {
            self.lease_was_lost();
        }
    }

    fn lease_was_lost(&self) {
        tracing::warn!("the store was silent for longer than this gateway's lease");
        self.count_lost(1);
    }

    fn count_lost(&self, lost: u64) {
        self.parts
            .meter
            .counter("shunt_leases_lost_total", &[])
            .increment(lost);
    }

    fn count_rescued(&self, rescued: u64) {
        if rescued > 0 {
            tracing::info!(rescued, "jobs of gateways that are gone are run again");
        }
        self.parts
            .meter
            .counter("shunt_jobs_rescued_total", &[])
            .increment(rescued);
    }

    /// Another gateway may have taken or ended it: if it runs here it is looked up.
    pub(super) fn doubt(&self, id: &JobId) {
        if self.runs.doubt(id) {
            self.lease.look();
        }
    }

    /// Looks up doubtful runs whenever it is asked to.
    async fn look_up(&self) {
        loop {
            self.lease.doubt.notified().await;
            let look = async |id: JobId| {
                let patience = self.parts.pulse.every();
                // Without an answer it stays doubtful, and is looked up after the next renewal.
                if let Ok(Ok(Some(job))) = timeout(patience, self.parts.store.get(&id)).await {
                    self.runs.judge(&job);
                }
            };
            let doubtful = stream::iter(self.runs.doubtful());
            doubtful.for_each_concurrent(AT_ONCE, look).await;
        }
    }
}
