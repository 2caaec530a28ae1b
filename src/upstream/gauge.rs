//! What is measured of one attempt, and when it counts.
//!
//! Promises: each series gets at most one sample of an attempt; a cancelled or broken-off attempt
//! counts as at least its age, or the percentiles would flatter; one that failed by itself counts
//! for nothing, since a target that failed fast is not a fast target.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::dialect::{self, Usage};
use super::now::Now;
use super::permits::Permit;
use super::queue::Queue;
use super::quota::{COOLING, Share};
use super::refusal::retryable;
use super::sse::{self, Lines};
use super::target::Target;
use super::usage::usage_in;
use crate::config::Dialect;
use crate::meter::{Kind, Sampled, Use, Witness};

/// Last bytes of an answer in which its token counts are looked for.
const TAIL: usize = 4 << 10;

/// Bytes that make about one token, where a provider tells no count.
const BYTES_A_TOKEN: u64 = 4;

/// What a failed attempt counts as at least in the balance of load.
const FAILED: Duration = Duration::from_secs(1);

/// The measurements of one attempt.
pub(super) struct Gauge {
    target: Arc<Target>,
    /// Its place at the target, until its end.
    permit: Permit,
    started: Instant,
    /// The caller asked for a stream, or the answer is one.
    streamed: bool,
    /// The answer is a stream of events.
    events: bool,
    head: bool,
    /// The head tells of success.
    success: bool,
    basis: Option<Arc<Sampled>>,
    witness: Option<Witness>,
    first_content: Option<Instant>,
    last_content: Option<Instant>,
    tokens_seen: u64,
    /// An event told of an error.
    told_error: bool,
    request_bytes: u64,
    /// What jobs had taken of the provider's quota that were sent before it.
    mark: Share,
    usage: Usage,
    lines: Lines,
    tail: Queue<Bytes>,
    used: Use,
    settled: bool,
    failed: bool,
    /// A job was refused for the provider's rate: no news of the target.
    held: bool,
    /// The answer was read to its end.
    whole: bool,
}

impl Gauge {
    pub fn new(
        target: Arc<Target>,
        permit: Permit,
        started: Instant,
        streamed: bool,
        basis: Option<Arc<Sampled>>,
        witness: Option<Witness>,
        request_bytes: u64,
    ) -> Self {
        target.meter.began();
        let mark = target.provider.quota.mark();
        Self {
            target,
            permit,
            started,
            streamed,
            events: false,
            head: false,
            success: false,
            basis,
            witness,
            first_content: None,
            last_content: None,
            tokens_seen: 0,
            told_error: false,
            request_bytes,
            mark,
            usage: Usage::default(),
            lines: Lines::default(),
            tail: Queue::default(),
            used: Use::Served,
            settled: false,
            failed: false,
            held: false,
            whole: false,
        }
    }

    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn tokens_seen(&self) -> u64 {
        self.tokens_seen
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    pub fn told_error(&self) -> bool {
        self.told_error
    }

    pub fn first_content(&self) -> Option<Instant> {
        self.first_content
    }

    pub fn is_stream(&self) -> bool {
        self.events
    }

    pub fn used_for(&mut self, used: Use) {
        self.used = used;
    }

    /// The head of an answer is there.
    pub fn head(&mut self, events: bool, status: StatusCode, headers: &HeaderMap) {
        let quota = &self.target.provider.quota;
        quota.answered(headers, self.started, self.mark);
        self.head = true;
        self.success = status.is_success();
        // What the caller did wrong is no fault of the target.
        if !retryable(status.as_u16()) {
            self.target.health.succeeded(self.started);
        }
        self.events = events && self.dialect() != Dialect::Plain;
        self.streamed = self.events || (self.streamed && self.dialect() == Dialect::Plain);
    }

    fn dialect(&self) -> Dialect {
        self.target.provider.dialect
    }

    /// The answer is an error that another attempt may improve on; `rest`: until when the target
    /// asks to be left alone.
    pub fn refused(&mut self, status: StatusCode, rest: Option<Duration>) {
        self.failed = true;
        let now = Instant::now();
        match (status, rest) {
            (StatusCode::TOO_MANY_REQUESTS, rest) => {
                let quota = &self.target.provider.quota;
                quota.refused(self.started, rest, now);
                // A job's refusal holds the jobs; hot calls find out by themselves.
                self.held = self.used == Use::Cold;
                if self.held {
                    self.target.health.given_up();
                } else {
                    self.target.health.rest(rest.unwrap_or(COOLING), now);
                }
            }
            (StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT, _) => {
                self.target.health.given_up();
            }
            (_, rest) => {
                self.target.health.failed(self.started, now);
                if let Some(rest) = rest {
                    // As for a rate: it holds all jobs of the provider, and a job's holds no hot call.
                    self.target.provider.quota.holds_for(rest, now);
                    if self.used != Use::Cold {
                        self.target.health.rest(rest, now);
                    }
                }
            }
        }
    }

    /// The attempt broke by itself.
    pub fn failed(&mut self) {
        // After content it still ran as long as it ran.
        self.failed = self.first_content.is_none();
        if self.failed {
            self.target.health.failed(self.started, Instant::now());
        }
        self.settle(Instant::now());
    }

    /// Bytes of the answer came.
    pub fn saw(&mut self, data: &Bytes, now: &mut Now) {
        if self.events {
            self.saw_events(data, now);
            return;
        }
        if self.first_content.is_none() && !data.is_empty() {
            self.content(now.get(), 1);
        }
        if self.dialect() != Dialect::Plain {
            self.keep_tail(data);
        }
    }

    fn saw_events(&mut self, data: &[u8], now: &mut Now) {
        let dialect = self.target.provider.dialect;
        let (mut count, mut told, mut wrong) = (0, Usage::default(), false);
        self.lines.feed(data, |line| {
            if let Some(payload) = sse::data(line) {
                let event = dialect::event(dialect, payload);
                count += u64::from(event.content || event.error);
                wrong |= event.error;
                told.update(event.usage);
            }
        });
        self.usage.update(told);
        self.told_error |= wrong;
        if count > 0 {
            self.content(now.get(), count);
        }
    }

    fn content(&mut self, now: Instant, count: u64) {
        self.tokens_seen += count;
        if self.first_content.is_none() {
            self.first_content = Some(now);
            let took = now - self.started;
            if !self.failed {
                self.target.load.saw(took, now);
                self.permit.saw(took, now);
            }
            if self.streamed && !self.failed {
                self.target.meter.first_token.record(took);
                self.sample_basis(took);
                self.testify(took, true);
            }
        } else if let Some(last) = self.last_content
            && self.events
        {
            // Tokens that came in one chunk share its gap.
            let gap = (now - last) / u32::try_from(count).unwrap_or(u32::MAX).max(1);
            self.target.meter.gap.record_n(gap, count);
        }
        self.last_content = Some(now);
    }

    fn sample_basis(&mut self, took: Duration) {
        if let Some(basis) = self.basis.take() {
            basis.ended(took);
        }
    }

    /// Tells its class; an error that came fast says nothing of how long an answer takes.
    fn testify(&mut self, took: Duration, ended: bool) {
        match self.witness.take() {
            None => {}
            Some(_) if self.head && !self.success => {}
            Some(witness) if ended => witness.ended(took),
            Some(witness) => witness.given_up(took),
        }
    }

    fn keep_tail(&mut self, data: &Bytes) {
        let from = data.len().saturating_sub(TAIL);
        self.tail.push(data.slice(from..));
        let mut total: usize = self.tail.iter().map(Bytes::len).sum();
        while let Some(first) = self.tail.front()
            && total - first.len() >= TAIL
        {
            total -= first.len();
            self.tail.pop();
        }
    }

    /// The whole answer was read.
    pub fn completed(&mut self, now: Instant) {
        if !self.events && !self.tail.is_empty() {
            // Mostly the tail came in one piece.
            let told = match self.tail.front() {
                Some(piece) if self.tail.len() == 1 => usage_in(piece),
                _ => {
                    let pieces: Vec<&[u8]> = self.tail.iter().map(AsRef::as_ref).collect();
                    usage_in(&pieces.concat())
                }
            };
            self.tail = Queue::default();
            self.usage.update(told);
        }
        self.whole = true;
        self.settle(now);
    }

    /// Counts what was not counted yet; once.
    fn settle(&mut self, now: Instant) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.target.meter.ended();
        let permit = std::mem::take(&mut self.permit);
        let age = now - self.started;
        if self.first_content.is_none() && !self.held {
            // A target that failed fast is not a fast target.
            let least = if self.failed { age.max(FAILED) } else { age };
            self.target.load.at_least(least, now);
            if !self.failed {
                permit.at_least(age, now);
            }
            if !self.head && !self.failed {
                self.target.health.given_up();
            }
        }
        if self.failed {
            return;
        }
        self.target.meter.duration.record(age);
        if self.streamed && self.first_content.is_none() {
            self.target.meter.first_token.record(age);
        }
        // Without an answer it was given up: all that is known is that it takes longer.
        if let Some(basis) = self.basis.take() {
            if self.whole {
                basis.ended(age);
            } else {
                basis.given_up(age);
            }
        }
        self.testify(age, self.whole);
        self.count_tokens();
    }

    fn count_tokens(&self) {
        if self.dialect() == Dialect::Plain {
            return;
        }
        let estimate = self.request_bytes / BYTES_A_TOKEN;
        let prompt = self.usage.prompt_tokens.unwrap_or(estimate);
        let seen = if self.events { self.tokens_seen } else { 0 };
        let completion = self.usage.completion_tokens.unwrap_or(seen);
        let meter = &self.target.meter;
        meter.tokens(Kind::Prompt, self.used, prompt);
        meter.tokens(Kind::Completion, self.used, completion);
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Instant::now());
        }
    }
}
