//! A job's part of a provider's quota, from its claim until it is sent.
//!
//! Promises: the quota hears once that the part was sent or never will be, whatever becomes of the
//! job. Dropping it tells so.

use std::sync::Arc;

use super::quota::Share;
use super::target::Target;

/// What a job has taken that was not sent yet.
pub struct Part {
    target: Arc<Target>,
    share: Share,
}

impl Part {
    /// The part of a job that goes to this target.
    pub fn new(target: Arc<Target>, share: Share) -> Self {
        Self { target, share }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.target.provider.quota.job_sent(self.share);
    }
}
