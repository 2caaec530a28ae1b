//! What became of each attempt of a job, for operators.
//!
//! Promises: names targets and errors, never headers, bodies or credentials. Pure data.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::job::{Job, JobError, Status, StoredAnswer, UnixMillis};
use super::runs::Why;
use super::store::Outcome;
use crate::journal::work;
use crate::upstream::target::Target;

/// The newest so many are kept of each job.
pub const KEPT: u32 = 100;

/// An attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptRecord {
    /// Which attempt of the job; counts from 1, anew after an operator's retry.
    pub number: u32,
    /// Where it went; unknown where its process died.
    pub target: Option<String>,
    /// When it began; unknown where its process died. For a call that was handed over: when the
    /// call arrived.
    pub began: Option<UnixMillis>,
    /// When it ended.
    pub ended: UnixMillis,
    /// `succeeded`, `failed`, `retried`, `rate_limited`, `expired`, `cancelled`, `superseded`
    /// (another attempt decided), `lost` (its process died or lost its lease) or `taken` (it was given
    /// up, since another gateway had taken the job).
    pub result: String,
    /// The provider's status, if it answered.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// Who ran it: host and process.
    pub gateway: String,
}

/// This process, as it stands in histories: host and process id.
pub fn this_gateway() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let host = host.unwrap_or_else(|_| "gateway".into());
        format!("{}/{}", host.trim(), std::process::id())
    })
}

/// What decided a job's run: a word, the provider's status, an error.
pub struct Verdict {
    /// The result.
    pub result: &'static str,
    /// The provider's status.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Verdict {
    /// That of an end.
    pub fn of(outcome: &Outcome) -> Self {
        let (answer, error) = (outcome.answer.as_ref(), outcome.error.as_ref());
        Self::with(outcome.status.as_str(), answer, error)
    }

    /// Every result.
    pub const RESULTS: [&'static str; 7] = [
        "succeeded",
        "failed",
        "cancelled",
        "expired",
        "retried",
        "rate_limited",
        "taken",
    ];

    /// One with what was answered and what went wrong.
    pub fn with(
        result: &'static str,
        answer: Option<&StoredAnswer>,
        error: Option<&JobError>,
    ) -> Self {
        Self {
            result,
            status: answer.map(|answer| answer.status),
            error: error.map(|error| error.message.clone()),
        }
    }

    /// The provider refused it for its rate: no attempt of the job.
    pub fn rate_limited() -> Self {
        Self {
            status: Some(429),
            ..Self::with("rate_limited", None, None)
        }
    }

    /// Somebody ended the job meanwhile, or took it.
    pub fn stopped(why: Why) -> Self {
        let result = match why {
            Why::Ended => Status::Cancelled.as_str(),
            Why::Taken => "taken",
        };
        Self::with(result, None, None)
    }
}

/// The attempts of one run of a job.
pub struct Run {
    began: UnixMillis,
    first: u32,
    tried: Vec<Arc<Target>>,
    /// Its span, where it is traced.
    span: Option<Box<work::Run>>,
}

impl Run {
    /// A run of the attempts made so far.
    pub fn begin(job: &Job, tried: &[Arc<Target>], began: UnixMillis) -> Self {
        let tried = tried.to_vec();
        let made = u32::try_from(tried.len()).unwrap_or(u32::MAX);
        Self {
            began,
            first: job.attempts.saturating_sub(made) + 1,
            tried,
            span: None,
        }
    }

    /// It is traced.
    #[must_use]
    pub fn traced(mut self, span: Option<Box<work::Run>>) -> Self {
        self.span = span;
        self
    }

    /// It is over, with this answer if there is one.
    pub fn ends(
        &mut self,
        by: Option<&Arc<Target>>,
        verdict: &Verdict,
        answer: Option<&StoredAnswer>,
    ) {
        if let Some(mut span) = self.span.take() {
            if let Some(answer) = answer {
                span.answered(&answer.body, answer.is_compressed());
            }
            span.ends(by, verdict.result, verdict.status);
        }
    }

    /// What stands in a history for a job that ran when its process died.
    #[cfg(test)]
    pub fn lost(number: u32, ended: UnixMillis) -> AttemptRecord {
        AttemptRecord {
            number,
            target: None,
            began: None,
            ended,
            result: "lost".into(),
            status: None,
            error: None,
            gateway: "a process that ended".into(),
        }
    }

    /// What is written of it. `by`: whose answer decided; `None`: nobody's, and all ended so.
    pub fn records(&self, by: Option<&Arc<Target>>, verdict: &Verdict) -> Vec<AttemptRecord> {
        let ended = UnixMillis::now();
        let decided = by.and_then(|by| self.tried.iter().rposition(|one| Arc::ptr_eq(one, by)));
        let each = self.tried.iter().zip(self.first..).enumerate();
        each.map(|(at, (target, number))| {
            let decides = decided.is_none_or(|decided| decided == at);
            AttemptRecord {
                number,
                target: Some(target.label.clone()),
                began: Some(self.began),
                ended,
                result: if decides {
                    verdict.result
                } else {
                    "superseded"
                }
                .to_owned(),
                status: verdict.status.filter(|_| decides),
                error: verdict.error.clone().filter(|_| decides),
                gateway: this_gateway().to_owned(),
            }
        })
        .collect()
    }
}
