//! The jobs of a scope: calls of one pipeline that are cancelled together (section 6 of the
//! contract).

use super::job::{Job, JobError, Owner};
use super::runner::Runner;
use super::store::{Outcome, StoreError};

/// Jobs of a scope that are looked at in one step.
const STEP: usize = 500;

impl Runner {
    /// The scope's jobs that are not finished, newest first, at most 500.
    pub async fn jobs_of(&self, owner: Owner, scope: &str) -> Result<Vec<Job>, StoreError> {
        self.store().jobs_in(owner, scope, STEP).await
    }

    /// Cancels the scope's jobs, with their provider calls. Gives how many.
    pub async fn cancel_all(&self, owner: Owner, scope: &str) -> Result<u64, StoreError> {
        let mut cancelled = 0;
        loop {
            let jobs = self.jobs_of(owner, scope).await?;
            let before = cancelled;
            for job in &jobs {
                cancelled += u64::from(self.end(&job.id, ended()).await?.is_some());
            }
            // What could not be ended now ends by itself.
            if jobs.len() < STEP || cancelled == before {
                return Ok(cancelled);
            }
        }
    }
}

/// How a job of a cancelled scope ends.
pub(super) fn ended() -> Outcome {
    Outcome::cancelled(JobError::new("scope_cancelled", "its scope was cancelled"))
}
