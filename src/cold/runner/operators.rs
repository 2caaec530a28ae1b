//! What operators do to jobs.
//!
//! Promises: a job that is run again gets its route's whole deadline and all its attempts.

use super::Runner;
use crate::cold::job::{Job, JobError, JobId, UnixMillis};
use crate::cold::store::{Outcome, StoreError};

impl Runner {
    /// Cancels a job for an operator, its provider call too. `None`: it is finished.
    ///
    /// # Errors
    /// The store is not available.
    pub async fn cancel_for_operator(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        let outcome = Outcome::cancelled(JobError::new("cancelled", "an operator cancelled it"));
        self.end(id, outcome).await
    }

    /// Runs a job once more. `None`: it did not fail, or neither its request nor its route is
    /// there any more.
    ///
    /// # Errors
    /// The store is not available, or its queue is full.
    pub async fn retry(&self, job: &Job) -> Result<Option<Job>, StoreError> {
        let Some(route) = self.route(&job.route) else {
            return Ok(None);
        };
        let now = UnixMillis::now();
        let expires_at = now.plus(route.settings.deadline.get());
        let again = self.parts.store.retry(&job.id, now, expires_at).await?;
        if again.is_some() {
            self.wake_for(&route);
        }
        Ok(again)
    }

    /// Delivers a finished job's callback once more, under the same `webhook-id`. `None`: there
    /// is none, or it is being delivered.
    ///
    /// # Errors
    /// The store is not available.
    pub async fn replay_callback(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        let store = &self.parts.store;
        let replayed = store.replay_delivery(id, UnixMillis::now()).await?;
        if replayed.is_some() {
            self.parts.callbacks.notify_one();
        }
        Ok(replayed)
    }
}
