//! What the simulated provider saw, in total and per `X-Request-Tag`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Tags told apart, and calls remembered.
const TAGS: usize = 50_000;
const CALLS: usize = 200_000;

/// Counts of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls whose head arrived.
    pub received: u64,
    /// Calls answered to the end.
    pub completed: u64,
    /// Calls that the caller left.
    pub aborted: u64,
    /// Calls that were broken off here, as a fault.
    pub broken: u64,
    /// Calls running.
    pub running: u64,
    /// Tokens written.
    pub tokens: u64,
}

/// Everything counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// In total.
    #[serde(flatten)]
    pub total: Counts,
    /// By tag.
    pub by_tag: BTreeMap<String, Counts>,
}

/// One call that ended; times in microseconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Its tag.
    pub tag: String,
    /// When its head arrived.
    pub received_us: u64,
    /// When its first token was sent.
    pub first_token_us: Option<u64>,
    /// When it ended.
    pub ended_us: u64,
    /// Whether the caller left.
    pub aborted: bool,
}

#[derive(Default)]
struct Kept {
    counts: Snapshot,
    ended: VecDeque<Call>,
}

/// The counters.
#[derive(Clone, Default)]
pub struct Stats(Arc<Mutex<Kept>>);

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Left,
    Completed,
    Broken,
}

/// A call; dropped before `complete` or `breaks` it was aborted.
pub struct Guard {
    stats: Stats,
    tag: String,
    received_us: u64,
    first_token_us: Option<u64>,
    ended: Ended,
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Stats {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, tag: &str, change: impl Fn(&mut Counts)) {
        let mut kept = self.kept();
        change(&mut kept.counts.total);
        let room = kept.counts.by_tag.len() < TAGS;
        if tag.is_empty() || !(room || kept.counts.by_tag.contains_key(tag)) {
            return;
        }
        change(kept.counts.by_tag.entry(tag.to_owned()).or_default());
    }

    /// A call arrived.
    pub fn begin(&self, tag: &str) -> Guard {
        self.count(tag, |counts| {
            counts.received += 1;
            counts.running += 1;
        });
        Guard {
            stats: self.clone(),
            tag: tag.to_owned(),
            received_us: now(),
            first_token_us: None,
            ended: Ended::Left,
        }
    }

    /// Everything counted.
    pub fn snapshot(&self) -> Snapshot {
        self.kept().counts.clone()
    }

    /// The last calls that ended.
    pub fn ended(&self) -> Vec<Call> {
        self.kept().ended.iter().cloned().collect()
    }

    /// Forgets everything but what runs.
    pub fn reset(&self) {
        let mut kept = self.kept();
        let running = kept.counts.total.running;
        *kept = Kept::default();
        kept.counts.total.running = running;
    }
}

impl Guard {
    /// A token was written.
    pub fn token(&mut self) {
        self.first_token_us.get_or_insert_with(now);
        self.stats.count(&self.tag, |counts| counts.tokens += 1);
    }

    /// Tokens were written at once.
    pub fn tokens(&mut self, count: u64) {
        self.first_token_us.get_or_insert_with(now);
        self.stats.count(&self.tag, |counts| counts.tokens += count);
    }

    /// The answer was sent to its end.
    pub fn complete(&mut self) {
        self.ended = Ended::Completed;
    }

    /// The answer is broken off.
    pub fn breaks(&mut self) {
        self.ended = Ended::Broken;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let ended = self.ended;
        self.stats.count(&self.tag, |counts| {
            counts.running = counts.running.saturating_sub(1);
            *match ended {
                Ended::Left => &mut counts.aborted,
                Ended::Completed => &mut counts.completed,
                Ended::Broken => &mut counts.broken,
            } += 1;
        });
        let mut kept = self.stats.kept();
        if kept.ended.len() >= CALLS {
            kept.ended.pop_front();
        }
        kept.ended.push_back(Call {
            tag: std::mem::take(&mut self.tag),
            received_us: self.received_us,
            first_token_us: self.first_token_us,
            ended_us: now(),
            aborted: ended == Ended::Left,
        });
    }
}
