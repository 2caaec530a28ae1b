//! All that is told of one call, and of its attempts.
//!
//! Holds no header but the trace's and no query; bodies only in `content`, where they are asked for.
//! Pure data.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method};
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Journal;
use super::content::Content;
use super::context::{Context, Told};
use crate::upstream::dialect::Usage;
use crate::upstream::target::Target;

/// All that is told of a call.
pub struct Call {
    pub(super) journal: Arc<Journal>,
    /// Its place in a trace: the one it came with, or one that began here; none: it is not traced.
    pub context: Option<Context>,
    /// What stood in `tracestate`, where it is traced.
    pub state: Option<HeaderValue>,
    /// The span of the whole call.
    pub span: u64,
    /// When its head was read, by the wall clock.
    pub wall: SystemTime,
    /// The same, by the one that nobody sets.
    pub arrived: Instant,
    /// When it was over.
    pub ended: Instant,
    /// The method.
    pub method: Method,
    /// The path without its query.
    pub path: Box<str>,
    /// How the answer names it.
    pub id: Option<HeaderValue>,
    /// The name of the gateway's key that it came with.
    pub key: Option<Box<str>>,
    /// Its route, once it was found.
    pub route: Option<Arc<str>>,
    /// The model that its caller asked for.
    pub model: Option<Box<str>>,
    /// Its caller asked for a stream.
    pub streamed: bool,
    /// In what time it was to be answered, or to have its first token.
    pub budget: Option<Duration>,
    /// The status of the answer; 499: the caller left.
    pub status: u16,
    /// What became of it: as in `shunt_requests_total`, or `refused` where it had no route.
    pub outcome: &'static str,
    /// Why, where it was not simply answered.
    pub why: Option<&'static str>,
    /// It went over its budget.
    pub over: bool,
    /// The job that it became.
    pub job: Option<Box<str>>,
    /// Whose answer it got, where that was another call's: known by `key`, `retry` or `store`.
    pub joined: Option<&'static str>,
    /// Whose answer it got, or who was asked last.
    pub target: Option<Arc<Target>>,
    /// Its attempts, in the order in which they began.
    pub attempts: SmallVec<[Attempted; 2]>,
    /// How long it waited for a place at a target.
    pub queued: Duration,
    /// Since when it waits for one.
    pub(super) waits: Option<Instant>,
    /// How long it waited for its caller's body.
    pub upload: Duration,
    /// The gateway's own part until the head of the answer.
    pub own: Option<Duration>,
    /// When its caller had the first content.
    pub first_token: Option<Duration>,
    /// The attempt whose answer was passed on, if one was.
    pub(super) passed_on: Option<usize>,
    /// What it said and was answered, where that is to be told.
    pub(super) content: Option<Box<Content>>,
    /// The model that the answer told of, where it is traced.
    pub answered_by: Option<Box<str>>,
    /// Pieces of the answer in which that is looked for yet.
    pub(super) unnamed: u8,
    /// What the answer told of its tokens.
    pub usage: Usage,
    /// When it was handed over, and the span of that.
    pub handed_over: Option<(Instant, u64)>,
    /// Cancelled with its scope, if it has one.
    pub(super) scope: Option<CancellationToken>,
    /// It is not to be told.
    pub(super) silent: bool,
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is the first.
    First,
    /// Another was slow.
    Hedge,
    /// Another failed.
    Retry,
}

impl Kind {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Hedge => "hedge",
            Self::Retry => "retry",
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It runs.
    Running,
    /// Its answer was passed on.
    Won,
    /// Another's was, and it was cancelled.
    Lost,
    /// It had no answer to pass on.
    Failed,
    /// Its answer broke off while it was passed on.
    Broke,
    /// It went on as a job's.
    HandedOver,
    /// It was given up with its call.
    Cancelled,
}

impl Came {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Broke => "broke_off",
            Self::HandedOver => "handed_over",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One attempt of a call.
pub struct Attempted {
    /// Where to.
    pub target: Arc<Target>,
    /// Why.
    pub kind: Kind,
    /// Since when.
    pub started: Instant,
    /// When the first content came from there.
    pub first_content: Option<Instant>,
    /// Until when.
    pub ended: Instant,
    /// What became of it.
    pub came: Came,
    /// The status of its answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub error: Option<&'static str>,
    /// Its span.
    pub span: u64,
}

impl Call {
    /// Says why it was cancelled, if it was.
    pub(super) fn left(&mut self) {
        let scope = self.scope.take();
        if self.outcome == "cancelled" {
            let cancelled = scope.is_some_and(|scope| scope.is_cancelled());
            let why = if cancelled {
                "scope_cancelled"
            } else {
                "caller_left"
            };
            self.why.get_or_insert(why);
        }
    }

    /// Whether it is traced to the end: its trace is kept, or it is one to look at.
    pub fn is_kept(&self) -> bool {
        let sampled = self.context.is_some_and(|context| context.is_sampled());
        self.context.is_some() && (sampled || self.is_remarkable())
    }

    /// What it said and was answered, and the attempt whose span has it: whose answer was passed on, else
    /// the last. None where it became a job: a run of that tells it.
    pub(super) fn told(&self) -> Option<(usize, &Content)> {
        let content = self.content.as_deref().filter(|_| self.job.is_none())?;
        let last = self.attempts.len().checked_sub(1)?;
        Some((self.passed_on.unwrap_or(last), content))
    }

    /// How many spans it makes.
    pub fn spans(&self) -> usize {
        1 + self.attempts.len() + usize::from(self.handed_over.is_some())
    }

    /// What a request says of the trace that is sent within a span of this call.
    pub(super) fn says(&self, span: u64) -> Option<Told> {
        self.journal.says(self.context, span)
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        self.ended.saturating_duration_since(self.arrived)
    }

    /// A moment of it by the wall clock.
    pub fn at(&self, moment: Instant) -> SystemTime {
        self.wall + moment.saturating_duration_since(self.arrived)
    }

    /// Whether it is kept whatever was drawn by lot: over its budget, failed and not
    /// by its caller's fault, or a job.
    fn is_remarkable(&self) -> bool {
        let broke_off = self.outcome == "failed" && self.status < 400;
        self.over || self.job.is_some() || broke_off || self.status >= 500
    }
}
