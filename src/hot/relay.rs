//! The body of an answer: the winner's frames as they come, or bytes of the gateway's own.
//!
//! Promises: frames pass unchanged, each when it comes; a silence longer than `idle` or a stream
//! past its `total` where it is to be cut ends the answer as broken, so that the caller notices;
//! dropping it cancels the attempt.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::keepalive::Waiting;
use super::pace::Pace;
use super::pipeline::Scoped;
use super::record::Record;
use super::share::{Followed, Led};
use crate::alarm::Alarm;
use crate::config::MidStream;
use crate::meter::Outcome;
use crate::upstream::attempt::Attempt;
use crate::upstream::incoming::Cut;
use crate::upstream::now::Now;

/// A caller that does not ask for more for so long is what its stream waits for.
const UNASKED: Duration = Duration::from_secs(1);

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum BrokenOff {
    /// The provider's connection broke.
    #[error("the provider broke off: {0}")]
    Provider(#[from] Cut),
    /// The provider was silent too long.
    #[error("the provider sent nothing for {0:?}")]
    Idle(Duration),
    /// The stream passed its total budget and is to be cut.
    #[error("the stream passed its budget")]
    OverBudget,
    /// The stream's tokens came too slowly.
    #[error("the stream's tokens came more slowly than its route's min_rate")]
    TooSlow,
    /// Its scope was cancelled.
    #[error("the call's scope was cancelled")]
    ScopeCancelled,
    /// The jobs API broke off.
    #[error("{0}")]
    Own(String),
}

impl BrokenOff {
    /// Its word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Provider(_) => "provider_broke_off",
            Self::Idle(_) => "idle",
            Self::OverBudget => "over_budget",
            Self::TooSlow => "too_slow",
            Self::ScopeCancelled => "scope_cancelled",
            Self::Own(_) => "broken_off",
        }
    }
}

/// An answer's body.
pub enum AnswerBody {
    /// The gateway's own bytes.
    Own(Option<Bytes>),
    /// A provider's answer.
    Relay(Box<Relay>),
    /// An answer that was begun before it was there.
    Waiting(Box<Waiting>),
    /// An answer that others may join.
    Led(Box<Led>),
    /// An answer that was another call's.
    Followed(Box<Followed>),
    /// An answer in a scope.
    Scoped(Box<Scoped>),
    /// An answer of the jobs API.
    Api(axum::body::Body),
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self::Own((!bytes.is_empty()).then_some(bytes))
    }
}

/// A provider's answer on its way.
pub struct Relay {
    attempt: Box<Attempt>,
    record: Option<Record>,
    idle: Duration,
    /// When a stream is cut.
    cut: Option<Instant>,
    /// The rate that a stream must keep.
    min_rate: u32,
    /// A stream that does not keep it is cut; else that is only counted.
    cut_slow: bool,
    pace: Option<Pace>,
    tokens: u64,
    /// Its timeline looks at what passes.
    watched: bool,
    /// Content was passed on.
    content: bool,
    /// The last that was asked of it was there: what follows until it is asked again is its caller's time.
    handed: bool,
    timer: Option<Alarm>,
    last: Instant,
}

impl Relay {
    /// An answer to a call that arrived then, begun now; its route's budget bounds it.
    pub fn new(attempt: Box<Attempt>, record: Record, arrived: Instant, now: Instant) -> Self {
        let budget = &record.route().budget;
        let cuts = record.route().over_budget.mid_stream == MidStream::Cut;
        let mut relay = Self {
            attempt,
            idle: budget.idle.get(),
            cut: cuts.then(|| arrived + budget.total.get()),
            min_rate: budget.min_rate,
            cut_slow: cuts,
            pace: None,
            tokens: 0,
            record: Some(record),
            watched: true,
            content: false,
            handed: false,
            timer: None,
            last: now,
        };
        relay.ended();
        relay
    }

    /// Settles the record once nothing is left to pass on.
    fn ended(&mut self) {
        if self.attempt.is_passed_on()
            && let Some(mut record) = self.record.take()
        {
            tells(&self.attempt, &mut record);
            let outcome = came_to(record.status(), self.attempt.told_failure());
            record.finish_at(outcome, self.last);
        }
    }

    fn broken(&mut self, why: BrokenOff) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(mut record) = self.record.take() {
            if let Some(timeline) = record.timeline() {
                timeline.broke_off(why.as_str());
            }
            tells(&self.attempt, &mut record);
            record.finish(Outcome::Failed);
        }
        Poll::Ready(Some(Err(why)))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut now = Now::default();
        match self.attempt.poll_frame(context, &mut now) {
            Poll::Ready(Some(Ok(frame))) => {
                self.is_asked(&mut now);
                self.handed = true;
                self.last = now.get();
                self.told_of(&frame);
                self.passes_content();
                self.ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.broken(error.into()),
            Poll::Ready(None) => {
                self.last = now.get();
                self.ended();
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.is_asked(&mut now);
                self.handed = false;
                let why = ready!(self.poll_limits(context));
                self.broken(why)
            }
        }
    }

    /// It is asked again: where its caller took its time, its rate is taken anew.
    fn is_asked(&mut self, now: &mut Now) {
        if self.handed && self.pace.is_some() && now.get() - self.last >= UNASKED {
            self.pace = Pace::new(self.min_rate, now.get());
        }
    }

    /// The first pieces tell which model answers; all of them, what.
    fn told_of(&mut self, frame: &Frame<Bytes>) {
        if self.watched {
            let timeline = self.record.as_mut().and_then(Record::timeline);
            self.watched = match (frame.data_ref(), timeline) {
                (Some(piece), Some(timeline)) => timeline.answer_passes(piece),
                _ => false,
            };
        }
    }

    /// What was read is about to be passed on.
    fn passes_content(&mut self) {
        if !self.content {
            self.content = self.attempt.first_content().is_some();
            if let Some(record) = self.record.as_mut().filter(|_| self.content) {
                record.passes_content(self.last);
            }
        }
        if self.content && self.min_rate != 0 {
            self.count_tokens();
        }
    }

    fn count_tokens(&mut self) {
        let seen = self.attempt.tokens_seen();
        let new = seen - std::mem::replace(&mut self.tokens, seen);
        if let Some(pace) = &mut self.pace {
            pace.saw(new, self.last);
        } else {
            self.pace = Pace::new(self.min_rate, self.last);
            self.set_timer();
        }
    }

    /// When a limit may pass next.
    fn due(&self) -> Instant {
        let silent = self.last + self.idle;
        let pace = self.pace.as_ref().map(Pace::next);
        [Some(silent), self.cut, pace]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(silent)
    }

    /// Resolves when a limit has passed.
    fn poll_limits(&mut self, context: &mut Context<'_>) -> Poll<BrokenOff> {
        if self.timer.is_none() {
            self.set_timer();
        }
        // It is moved only when it goes off: a stream does not pay for it per chunk.
        while let Some(timer) = &mut self.timer {
            ready!(timer.poll(context));
            let now = Instant::now();
            if self.cut.is_some_and(|cut| now >= cut) {
                if let Some(record) = &mut self.record {
                    record.is_cut();
                }
                return Poll::Ready(BrokenOff::OverBudget);
            }
            if now >= self.last + self.idle {
                return Poll::Ready(BrokenOff::Idle(self.idle));
            }
            if self.pace.as_mut().is_some_and(|pace| pace.too_slow(now)) {
                // Told once: a stream that goes on is not watched further.
                self.pace = None;
                self.min_rate = 0;
                if let Some(record) = &mut self.record {
                    record.too_slow(self.cut_slow);
                }
                if self.cut_slow {
                    return Poll::Ready(BrokenOff::TooSlow);
                }
            }
            self.set_timer();
        }
        Poll::Pending
    }

    fn set_timer(&mut self) {
        let due = self.due();
        match &mut self.timer {
            Some(timer) => timer.reset(due),
            none => *none = Some(Alarm::new(due)),
        }
    }
}

/// What a call comes to that got a whole answer. A provider's error is a failure, and what its caller did
/// wrong is none.
pub(super) fn came_to(status: u16, failed: bool) -> Outcome {
    if failed || status >= 500 {
        Outcome::Failed
    } else {
        Outcome::Served
    }
}

/// Leaves in the record what is told of its answer's attempt.
fn tells(attempt: &Attempt, record: &mut Record) {
    if let Some(timeline) = record.timeline() {
        timeline.content_came(attempt.first_content());
        timeline.used(attempt.usage());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Its caller left.
        if let Some(record) = &mut self.record {
            tells(&self.attempt, record);
        }
    }
}

/// What an answer that has passed was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// All of it is there.
    Whole,
    /// Its provider did not say that it is whole.
    Endless,
    /// It told of a failure after its head had said otherwise.
    Failed,
}

impl AnswerBody {
    /// What it was worth, once it has passed.
    pub fn worth(&self) -> Worth {
        match self {
            Self::Relay(relay) if relay.attempt.told_failure() => Worth::Failed,
            Self::Relay(relay) if relay.attempt.ended_early() => Worth::Endless,
            Self::Waiting(waiting) => waiting.worth(),
            Self::Scoped(scoped) => scoped.worth(),
            Self::Relay(_) | Self::Own(_) | Self::Led(_) | Self::Followed(_) | Self::Api(_) => {
                Worth::Whole
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relay(relay) => relay.poll_next(context),
            Self::Waiting(waiting) => waiting.poll_next(context),
            Self::Led(led) => led.poll_next(context),
            Self::Followed(followed) => followed.poll_next(context),
            Self::Scoped(scoped) => scoped.poll_next(context),
            Self::Api(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|error| BrokenOff::Own(error.to_string())),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relay(relay) => relay.attempt.is_passed_on(),
            Self::Waiting(waiting) => waiting.is_ended(),
            Self::Led(led) => led.is_ended(),
            Self::Followed(followed) => followed.is_ended(),
            Self::Scoped(scoped) => scoped.is_ended(),
            Self::Api(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Relay(relay) => relay.attempt.size_hint(),
            Self::Led(led) => led.size_hint(),
            Self::Scoped(scoped) => scoped.size_hint(),
            Self::Waiting(_) | Self::Followed(_) => SizeHint::default(),
            Self::Api(body) => body.size_hint(),
        }
    }
}
