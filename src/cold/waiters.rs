//! Who waits for a job to finish.
//!
//! Bounded by those who wait: an entry goes with the last of them. Never on the hot path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::job::JobId;

/// Waiters by job.
#[derive(Default)]
pub struct Waiters(Mutex<HashMap<JobId, Arc<Notify>>>);

/// One who waits.
pub struct Waiter<'a> {
    waiters: &'a Waiters,
    id: &'a JobId,
    /// Notified when the job finished, or may have.
    pub notify: Arc<Notify>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more who waits for a job.
    pub fn of<'a>(&'a self, id: &'a JobId) -> Waiter<'a> {
        let notify = self.lock().entry(id.clone()).or_default().clone();
        Waiter {
            waiters: self,
            id,
            notify,
        }
    }

    /// The job finished, or may have: whoever waits looks again.
    pub fn wake(&self, id: &JobId) {
        if let Some(notify) = self.lock().get(id) {
            notify.notify_waiters();
        }
    }

    /// Whoever waits looks again.
    pub fn wake_all(&self) {
        for notify in self.lock().values() {
            notify.notify_waiters();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        // The list's and ours; another is only made under this lock.
        if Arc::strong_count(&self.notify) <= 2 {
            waiting.remove(self.id);
        }
    }
}
