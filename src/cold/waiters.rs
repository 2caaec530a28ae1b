//! Who waits for a job to finish, and the jobs that can be cancelled here.
//!
//! Bounded by the unfinished jobs, since an entry goes when its job ends. Never on the hot path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::job::JobId;

/// Waiters and running jobs.
#[derive(Default)]
pub struct Waiters {
    waiting: Mutex<HashMap<JobId, Arc<Notify>>>,
    running: Mutex<HashMap<JobId, CancellationToken>>,
}

impl Waiters {
    /// What is notified when the job finishes.
    pub fn of(&self, id: &JobId) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(id.clone()).or_default().clone()
    }

    /// The job runs here; the token stops it.
    pub fn runs(&self, id: &JobId) -> CancellationToken {
        let token = CancellationToken::new();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(id.clone(), token.clone());
        token
    }

    /// The job no longer runs here.
    pub fn rests(&self, id: &JobId) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(id);
    }

    /// The job is finished: whoever waits is told, and what still runs of it is stopped.
    pub fn finished(&self, id: &JobId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waiting.remove(id) {
            notify.notify_waiters();
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = running.remove(id) {
            token.cancel();
        }
    }
}
