//! A job that cannot be run because what was kept of its call cannot be read.

use std::fmt::Display;

use bytes::Bytes;

use super::ClaimedJob;
use crate::cold::job::{Job, JobError, StoredRequest};

impl ClaimedJob {
    /// Its runner ends it with the error that it carries; nothing is sent.
    pub fn unreadable(mut job: Job, why: &dyn Display) -> Self {
        let message =
            format!("what was kept of the call cannot be read: {why}; then retry the job");
        job.error = Some(JobError::new("unreadable", message));
        let request = StoredRequest {
            method: String::new(),
            path_and_query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        Self { job, request }
    }
}
