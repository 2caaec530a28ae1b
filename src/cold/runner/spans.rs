//! The span of a job's run, where runs are traced.

use super::Runner;
use super::call;
use crate::cold::job::{Job, StoredRequest};
use crate::journal::work::{Of, Run};
use crate::upstream::target::Call;

impl Runner {
    /// Of a run that begins with this call.
    pub(super) fn span(&self, job: &Job, call: &Call) -> Option<Box<Run>> {
        let journal = self.parts.journal.as_ref()?;
        let of = Of {
            job: job.id.as_str(),
            route: &job.route,
            path: call.path.path(),
            body: &call.body,
            number: job.attempts,
            called_back: job.callback.is_some(),
        };
        journal.run(&of, &call.headers)
    }

    /// The same of a call that was handed over.
    pub(super) fn span_of(&self, job: &Job, request: &StoredRequest) -> Option<Box<Run>> {
        // Else nothing is copied for it.
        self.parts.journal.as_ref()?;
        let dialect = self.route(&job.route)?.targets.dialect();
        self.span(job, &call(request.clone(), dialect)?)
    }
}
