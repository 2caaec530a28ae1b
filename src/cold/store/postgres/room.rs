//! How many unfinished jobs the queue holds, about: this gateway's own count, set right by the
//! database's each second.
//!
//! Promises: what this gateway did counts at once; what others did, within a second, or five while
//! this one always writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::link::Link;
use super::reads;
use crate::cold::store::StoreError;

/// How often the database counts, at most.
const EVERY: Duration = Duration::from_secs(1);

/// The count is taken even while this gateway writes, after this.
const AT_LAST: Duration = Duration::from_secs(5);

/// The share of a second that counting may take: this part.
const SHARE: u32 = 50;

/// Room in the queue.
pub(super) struct Room {
    limit: u64,
    unfinished: AtomicI64,
    /// Own changes on their way, and those that were made.
    busy: AtomicI64,
    made: AtomicU64,
}

impl Room {
    /// Room for so many, of which so many are taken.
    pub fn new(limit: u64, unfinished: i64) -> Self {
        Self {
            limit,
            unfinished: AtomicI64::new(unfinished),
            busy: AtomicI64::new(0),
            made: AtomicU64::new(0),
        }
    }

    /// Takes a place and begins a change.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(&self) -> Result<(), StoreError> {
        let before = self.unfinished.fetch_add(1, Ordering::AcqRel);
        if before.max(0).unsigned_abs() >= self.limit {
            self.leave();
            return Err(StoreError::QueueFull { limit: self.limit });
        }
        self.begin();
        Ok(())
    }

    /// Gives a place back.
    pub fn leave(&self) {
        self.unfinished.fetch_sub(1, Ordering::AcqRel);
    }

    /// A change begins.
    pub fn begin(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// A change was made, or not.
    pub fn settled(&self) {
        self.made.fetch_add(1, Ordering::AcqRel);
        self.busy.fetch_sub(1, Ordering::AcqRel);
    }

    fn made(&self) -> Option<u64> {
        let made = self.made.load(Ordering::Acquire);
        (self.busy.load(Ordering::Acquire) == 0).then_some(made)
    }

    /// Sets the count right until the store is closed.
    pub async fn keep_right(self: Arc<Self>, link: Arc<Link>) {
        let (mut right, mut rest) = (Instant::now(), EVERY);
        loop {
            sleep(rest).await;
            let (before, began) = (self.made(), Instant::now());
            let Ok(session) = link.session().await else {
                continue;
            };
            let Ok(count) = reads::unfinished(&session).await else {
                continue;
            };
            rest = EVERY.max(began.elapsed() * SHARE);
            // A change in between may be in the count or not.
            let calm = before.is_some() && self.made() == before;
            if calm || right.elapsed() >= AT_LAST {
                self.unfinished.store(count, Ordering::Release);
                right = Instant::now();
            }
        }
    }
}
