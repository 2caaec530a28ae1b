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
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.ejections.load(Ordering::Relaxed);
        // While it is ejected only the probe's failure makes it longer.
        let probing = self.probing.load(Ordering::Relaxed) > 0;
        let again = before > 0 && probing && self.sent_since(sent);
        if again || (before == 0 && failures >= FAILURES) {
            self.eject(before, now);
        }
    }

    /// Whether a call sent then was sent after the ejection.
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

    /// A call was given up before it told anything.
    pub fn given_up(&self) {
        if self.probing.load(Ordering::Relaxed) > 0 {
            self.probing.store(0, Ordering::Relaxed);
        }
    }

    /// It asked to be left alone for so long.
    pub fn rest(&self, time: Duration, now: Instant) {
        let until = self.micros(now + time.min(LONGEST_REST));
        self.resting.fetch_max(until, Ordering::Relaxed);
        self.given_up();
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eject(health: &Health, now: Instant) {
        for _ in 0..FAILURES {
            health.failed(now, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_eject_and_a_probe_brings_it_back() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..FAILURES - 1 {
            health.failed(now, now);
        }
        health.succeeded(now);
        health.failed(now, now);
        assert_eq!(health.admission(now), Admission::Open);
        eject(&health, now);
        assert_eq!(health.admission(now), Admission::Closed);
        let later = now + FIRST;
        assert_eq!(health.admission(later), Admission::HalfOpen);
        assert!(health.probe(later));
        assert!(!health.probe(later));
        assert_eq!(health.admission(later), Admission::Closed);
        assert_eq!(health.closed_for(later), Some(Duration::ZERO));
        health.succeeded(later);
        assert_eq!(health.admission(later), Admission::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn each_failed_probe_doubles_the_time_up_to_the_longest() {
        let health = Health::default();
        let mut now = Instant::now();
        eject(&health, now);
        let mut expected = FIRST;
        for _ in 0..12 {
            assert_eq!(
                health.admission(now + expected - Duration::from_micros(1)),
                Admission::Closed
            );
            now += expected;
            assert_eq!(health.admission(now), Admission::HalfOpen);
            assert!(health.probe(now));
            health.failed(now, now);
            expected = (expected * 2).min(LONGEST);
        }
        assert_eq!(expected, LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_stays_worse_than_its_peers_is_left_alone_longer_each_time() {
        let health = Health::default();
        let mut now = Instant::now();
        for time in [FIRST, 2 * FIRST, 4 * FIRST] {
            health.worse_than_peers(now);
            assert_eq!(
                health.admission(now + time - Duration::from_micros(1)),
                Admission::Closed
            );
            now += time;
            assert_eq!(health.admission(now), Admission::HalfOpen);
            // A lucky probe opens it and does not clear it.
            assert!(health.probe(now));
            health.succeeded(now);
            assert_eq!(health.admission(now), Admission::Open);
        }
        assert_eq!(health.ejections(), 3);
        for _ in 0..5 {
            health.like_its_peers();
        }
        health.worse_than_peers(now);
        assert_eq!(health.admission(now + FIRST), Admission::HalfOpen);
    }

    #[tokio::test(start_paused = true)]
    async fn late_successes_of_calls_from_before_do_not_end_it() {
        let (health, before) = (Health::default(), Instant::now());
        let now = before + Duration::from_secs(1);
        eject(&health, now);
        health.succeeded(before);
        assert_eq!(health.admission(now), Admission::Closed);
        let later = now + FIRST;
        assert!(health.probe(later));
        health.succeeded(before);
        assert_eq!(health.admission(later), Admission::Closed);
        health.failed(before, later);
        health.succeeded(later);
        assert_eq!(health.admission(later), Admission::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn late_failures_of_calls_from_before_do_not_make_it_longer() {
        let (health, now) = (Health::default(), Instant::now());
        eject(&health, now);
        for _ in 0..50 {
            health.failed(now - Duration::from_secs(1), now + Duration::from_secs(1));
        }
        assert_eq!(health.admission(now + FIRST), Admission::HalfOpen);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_frees_its_place() {
        let (health, now) = (Health::default(), Instant::now());
        eject(&health, now);
        let later = now + FIRST;
        assert!(health.probe(later));
        health.given_up();
        assert_eq!(health.admission(later), Admission::HalfOpen);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hears_nothing_does_not_keep_its_place() {
        let (health, now) = (Health::default(), Instant::now());
        eject(&health, now);
        let later = now + FIRST;
        assert!(health.probe(later));
        let still = later + PROBE - Duration::from_micros(1);
        assert_eq!(health.admission(still), Admission::Closed);
        assert!(health.probe(later + PROBE));
        assert!(!health.probe(later + PROBE));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_closed_says_for_how_long() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(health.closed_for(now), None);
        health.rest(Duration::from_secs(2), now);
        assert_eq!(health.closed_for(now), Some(Duration::from_secs(2)));
        eject(&health, now);
        assert_eq!(health.closed_for(now), Some(FIRST));
        assert_eq!(health.closed_for(now + FIRST), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_asks_for_rest_gets_it_and_is_not_ejected() {
        let (health, now) = (Health::default(), Instant::now());
        health.rest(Duration::from_secs(3), now);
        assert_eq!(
            health.admission(now + Duration::from_secs(2)),
            Admission::Closed
        );
        assert_eq!(
            health.admission(now + Duration::from_secs(3)),
            Admission::Open
        );
    }
}
