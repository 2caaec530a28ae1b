//! What a delivery carries, read from the store when it is sent.
//!
//! Promises: an answer that is not told is not read; of those that are long, whose own state is to
//! be told, one is held at a time. So the deliveries that run hold at most `concurrency` times
//! `inline_limit`, and one long answer.

#[cfg(test)]
mod tests;

use super::deliver::Deliverer;
use super::payload::{self, Told};
use crate::cold::job::{Job, Status};
use crate::cold::seal::OVERHEAD;
use crate::cold::store::StoreError;

impl Deliverer {
    /// The body of a job's callback.
    pub(super) async fn body(&self, job: &Job) -> Result<Vec<u8>, StoreError> {
        let limit = self.settings.inline_limit;
        let short = u64::try_from(limit.saturating_add(OVERHEAD)).unwrap_or(u64::MAX);
        let long = match self.store.answer_size(&job.id).await? {
            None => return Ok(payload::body(job, Told::Nothing)),
            Some(size) => size > short,
        };
        // In OpenAI's shape an answer is not sent, but may say itself how it ended.
        let asked = job.background.is_some() && job.status == Status::Succeeded;
        if long && !asked {
            return Ok(payload::body(job, Told::Elsewhere));
        }
        let _one = if long {
            Some(self.long.lock().await)
        } else {
            None
        };
        let answer = self.store.answer(&job.id).await?;
        let told = match &answer {
            Some(answer) if answer.body.len() > limit && !asked => Told::Elsewhere,
            Some(answer) => Told::Answer(answer),
            None => Told::Nothing,
        };
        Ok(payload::body(job, told))
    }
}
