//! Whether calls are sent to a target: outlier ejection with half-open probes, and cooling down.
//!
//! As Envoy's outlier detection: after failures in a row, or where `peers` finds it much worse than
//! the others, a target is left alone, each time longer; then one call probes it. Promises: what a
//! caller did wrong is no fault of the target; a call sent before an ejection neither ends it nor
//! makes it longer; a probe that was given up frees its place; a target that says when to come back
//! is left alone until then. Does not know its peers: whoever picks sends to somebody in any case.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::peers::Tally;

/// Failures in a row that eject.
const FAILURES: u32 = 5;

/// The first ejection, and the longest.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(5);

/// How long a probe has its place: after that another call may find out, whatever became of it.
const PROBE: Duration = Duration::from_secs(30);

/// The longest time that a target's own `Retry-After` is believed.
const LONGEST_REST: Duration = Duration::from_mins(10);

/// What a picker may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send.
    Open,
    /// One call may find out.
    HalfOpen,
    /// Leave it alone.
    Closed,
}

/// A target's health.
pub struct Health {
    origin: Instant,
    /// Failures in a row.
    failures: AtomicU32,
    /// Ejections in a row; zero: not ejected.
    ejections: AtomicU32,
    /// Intervals in which it was worse than its peers, less those in which it was like them: a
    /// target that fails every second call passes every second probe, and that does not clear it.
    outlying: AtomicU32,
    /// Ejections since the start.
    ejected_times: AtomicU32,
    tally: Tally,
    /// Since when and until when it is ejected, and until when it asked to be left alone;
    /// microseconds from `origin`.
    ejected_since: AtomicU64,
    ejected: AtomicU64,
    resting: AtomicU64,
    /// Until when a probe has its place; zero: there is none.
    probing: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            outlying: AtomicU32::new(0),
            ejected_times: AtomicU32::new(0),
            tally: Tally::default(),
            ejected_since: AtomicU64::new(0),
            ejected: AtomicU64::new(0),
            resting: AtomicU64::new(0),
            probing: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// Whether a call may be sent now.
    pub fn admission(&self, now: Instant) -> Admission {
        let now = self.micros(now);
        if now < self.resting.load(Ordering::Relaxed) {
            return Admission::Closed;
        }
        if self.ejections.load(Ordering::Relaxed) == 0 {
            return Admission::Open;
        }
        let ejected = self.ejected.load(Ordering::Relaxed);
        if now < ejected.max(self.probing.load(Ordering::Relaxed)) {
            Admission::Closed
        } else {
            Admission::HalfOpen
        }
    }

    /// Until when it is left alone, as far as is known; `None`: a call may be sent now.
    pub fn closed_for(&self, now: Instant) -> Option<Duration> {
        if self.admission(now) != Admission::Closed {
            return None;
        }
        let now = self.micros(now);
        let resting = self.resting.load(Ordering::Relaxed);
        let until = if self.ejections.load(Ordering::Relaxed) == 0 {
            resting
        } else {
            resting.max(self.ejected.load(Ordering::Relaxed))
        };
        // What a probe finds out may come at any time.
        Some(Duration::from_micros(until.saturating_sub(now)))
    }

    /// Whether it was ejected and no probe has brought it back yet.
    pub fn is_ejected(&self) -> bool {
        self.ejections.load(Ordering::Relaxed) > 0
    }

    /// Whether nothing speaks for it: it was not heard since it last failed, or is left alone.
    pub fn is_doubtful(&self, now: Instant) -> bool {
        self.failures.load(Ordering::Relaxed) > 0 || self.admission(now) != Admission::Open
    }

    /// Takes the place of the one call that finds out; `false` where another has it.
    pub fn probe(&self, now: Instant) -> bool {
        let (now, until) = (self.micros(now), self.micros(now + PROBE));
        let taken = self
            .probing
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                (before <= now).then_some(until)
            });
        taken.is_ok()
    }

    /// The probe that was picked then is sent only now, and has its place from now on.
    pub fn probes_from(&self, picked: Instant, now: Instant) {
        let (before, until) = (self.micros(picked + PROBE), self.micros(now + PROBE));
        // Where the place is another's by now, it is.
        let _ = self
            .probing
            .compare_exchange(before, until, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether a call sent then is the probe that has the place.
    fn is_probe(&self, sent: Instant) -> bool {
        self.probing.load(Ordering::Relaxed) == self.micros(sent + PROBE)
    }

    /// It answered a call sent then.
    pub fn succeeded(&self, sent: Instant) {
        self.tally.succeeded();
        // Mostly there is nothing to change: workers share these without writing to them.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.ejections.load(Ordering::Relaxed) > 0 && self.sent_since(sent) {
            self.ejections.store(0, Ordering::Relaxed);
            self.probing.store(0, Ordering::Relaxed);
        }
    }

    /// It failed by itself at a call sent then.
    pub fn failed(&self, sent: Instant, now: Instant) {
        self.tally.failed();
        // What hung since before an ejection is no news of a target that came back.
        if !self.sent_since(sent) {
            return;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.ejections.load(Ordering::Relaxed);
        // While it is ejected only the probe's failure makes it longer.
        let again = before > 0 && self.is_probe(sent);
        if again || (before == 0 && failures >= FAILURES) {
            self.eject(before, now);
        }
    }

    /// Whether a call sent then was sent after the last ejection.
    fn sent_since(&self, sent: Instant) -> bool {
        self.micros(sent) >= self.ejected_since.load(Ordering::Relaxed)
    }

    /// It fails much more often than its peers.
    pub fn worse_than_peers(&self, now: Instant) {
        let before = self.ejections.load(Ordering::Relaxed);
        let outlying = self.outlying.fetch_add(1, Ordering::Relaxed);
        self.eject(before.max(outlying), now);
    }

    /// It had enough calls, and answered them as its peers did.
    pub fn like_its_peers(&self) {
        let _ = self
            .outlying
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |times| {
                times.checked_sub(1)
            });
    }

    /// Leaves it alone, for twice as long with each time before.
    fn eject(&self, before: u32, now: Instant) {
        let time = FIRST
            .saturating_mul(2u32.saturating_pow(before))
            .min(LONGEST);
        self.ejected_since
            .store(self.micros(now), Ordering::Relaxed);
        let until = self.micros(now + time);
        self.ejected.store(until, Ordering::Relaxed);
        self.ejections
            .store(before.saturating_add(1), Ordering::Relaxed);
        self.ejected_times.fetch_add(1, Ordering::Relaxed);
        self.probing.store(0, Ordering::Relaxed);
    }

    /// Calls since the last comparison with its peers.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How often it was ejected since the start.
    pub fn ejections(&self) -> u32 {
        self.ejected_times.load(Ordering::Relaxed)
    }

    /// A call sent then, or picked then to be sent, was given up before it told anything.
    pub fn given_up(&self, sent: Instant) {
        if self.is_probe(sent) {
            self.probing.store(0, Ordering::Relaxed);
        }
    }

    /// It answered a call sent then that it wants to be left alone for so long.
    pub fn rest(&self, time: Duration, sent: Instant, now: Instant) {
        let until = self.micros(now + time.min(LONGEST_REST));
        self.resting.fetch_max(until, Ordering::Relaxed);
        self.given_up(sent);
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
