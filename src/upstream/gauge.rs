//! What is measured of one attempt, and when it counts.
//!
//! Promises: each series gets at most one sample of an attempt; a cancelled or broken-off attempt
//! counts as at least its age, or the percentiles would flatter; one that failed by itself counts
//! for nothing, since a target that failed fast is not a fast target. A target has its health from what
//! can be used of an answer, not from a good head that nothing follows.

mod standing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::dialect::{self, Event, Usage};
use super::now::Now;
use super::permits::Permit;
use super::queue::Queue;
use super::quota::Share;
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
    /// The head tells of no error.
    success: bool,
    /// Its target's health was told.
    judged: bool,
    basis: Option<Arc<Sampled>>,
    witness: Option<Witness>,
    first_content: Option<Instant>,
    last_content: Option<Instant>,
    tokens_seen: u64,
    /// An event came.
    told: bool,
    /// An event told of an error.
    told_error: bool,
    /// An event told that the answer is whole.
    told_end: bool,
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
            judged: false,
            basis,
            witness,
            first_content: None,
            last_content: None,
            tokens_seen: 0,
            told: false,
            told_error: false,
            told_end: false,
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

    /// It is a stream without an event.
    pub fn told_nothing(&self) -> bool {
        self.events && !self.told
    }

    /// It is a stream that ended before its provider said that it is whole.
    pub fn ended_early(&self) -> bool {
        self.events && self.whole && !self.told_end
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
        let provider = &self.target.provider;
        if !provider.accounts.are_many(self.started) {
            provider.quota.answered(headers, self.started, self.mark);
        }
        self.head = true;
        self.success = !status.is_client_error() && !status.is_server_error();
        self.events = events && self.dialect() != Dialect::Plain;
        self.streamed = self.events || (self.streamed && self.dialect() == Dialect::Plain);
        if !self.success && !retryable(status.as_u16()) {
            self.is_wrong(status);
        }
    }

    fn dialect(&self) -> Dialect {
        self.target.provider.dialect
    }

    /// The attempt broke by itself.
    pub fn failed(&mut self) {
        // After content it still ran as long as it ran.
        self.failed = self.first_content.is_none();
        let now = Instant::now();
        self.fails(now);
        self.settle(now);
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
        let (mut count, mut used, mut all) = (0, Usage::default(), Event::default());
        let mut told = false;
        self.lines.feed(data, |line| {
            if let Some(payload) = sse::data(line) {
                let event = dialect::event(dialect, payload);
                count += u64::from(event.content);
                (all.error, all.end) = (all.error | event.error, all.end | event.end);
                used.update(event.usage);
                told |= !payload.is_empty();
            }
        });
        self.usage.update(used);
        self.told |= told;
        self.told_error |= all.error;
        self.told_end |= all.end;
        if count > 0 {
            self.content(now.get(), count);
        }
    }

    fn content(&mut self, now: Instant, count: u64) {
        self.tokens_seen += count;
        if self.first_content.is_none() {
            self.first_content = Some(now);
            // What is one piece may be cut off yet.
            if self.success && (self.events || self.dialect() == Dialect::Plain) {
                self.succeeds();
            }
            let took = now - self.started;
            // An error that came fast says nothing of how long an answer takes.
            if self.success && !self.failed {
                self.target.load.saw(took, now);
                self.permit.saw(took, now);
            }
            if self.streamed && self.success && !self.failed {
                self.target.meter.first_token.record(took);
                if let Some(basis) = self.basis.take() {
                    basis.ended(took);
                }
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

    /// Tells its class.
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
        if self.events && self.first_content.is_none() && (self.told_error || !self.told) {
            self.failed = true;
            self.fails(now);
        }
        self.succeeds();
        self.settle(now);
    }

    /// Counts what was not counted yet; once.
    fn settle(&mut self, now: Instant) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.target.meter.ended();
        let mut permit = std::mem::take(&mut self.permit);
        let age = now - self.started;
        self.is_given_up();
        if self.failed || (self.head && !self.success) {
            permit.is_no_measure();
        }
        if self.first_content.is_none() && !self.held {
            if self.failed {
                self.costs(now);
            } else {
                self.target.load.at_least(age, now);
                permit.at_least(age, now);
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
            match (self.success, self.whole) {
                (true, true) => basis.ended(age),
                (false, _) if self.head => {}
                (_, _) => basis.given_up(age),
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
