//! How loaded a target looks: an average of its first-token times, times the calls at it.
//!
//! linkerd's and Finagle's measure without its peaks: there a sample above the average replaces it
//! at once, and as one first token in a hundred is a stall of seconds, every target looks stalled
//! and a slow one hides among them (`cargo bench --bench figures -- balance`). Promises: the average
//! follows in ten seconds or a hundred samples, whichever is sooner, and wears off in silence, so
//! that a target that was slow is tried again; an attempt that was given up never makes a target
//! look faster; a target nobody knows gets one call until it is known. A lost update between two
//! threads costs one sample, never a wrong value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time constant of decay.
const DECAY: Duration = Duration::from_secs(10);

/// What one sample weighs at least.
const LEAST: f64 = 0.01;

/// The cost of a target that has calls and no history: above any real one.
const UNKNOWN: f64 = 1e12;

/// A target's latency as the balancer sees it.
pub struct Load {
    origin: Instant,
    /// Seconds, as the bits of an `f64`; zero: unknown.
    average: AtomicU64,
    /// When it was last set, in microseconds from `origin`.
    stamp: AtomicU64,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            average: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
        }
    }
}

impl Load {
    /// An attempt had its first content after so long.
    pub fn saw(&self, took: Duration, now: Instant) {
        let (sample, before) = (took.as_secs_f64(), self.average());
        let average = if before <= 0.0 {
            sample
        } else {
            let weight = (1.0 - self.kept(now)).max(LEAST);
            before * (1.0 - weight) + sample * weight
        };
        self.set(average, now);
    }

    /// An attempt was given up at this age, or failed: its time would have been at least that.
    pub fn at_least(&self, age: Duration, now: Instant) {
        if age.as_secs_f64() > self.decayed(now) {
            self.saw(age, now);
        }
    }

    /// Seconds that a first content took on average of late; `None`: nothing is known of it.
    pub fn seconds(&self) -> Option<f64> {
        let average = self.average();
        (average > 0.0).then_some(average)
    }

    /// What one more call would meet: expected seconds times the calls at the target with it.
    pub fn cost(&self, running: usize, now: Instant) -> f64 {
        let average = self.decayed(now);
        if average <= 0.0 && running > 0 {
            return UNKNOWN + running as f64;
        }
        average * (running + 1) as f64
    }

    fn average(&self) -> f64 {
        f64::from_bits(self.average.load(Ordering::Relaxed))
    }

    fn decayed(&self, now: Instant) -> f64 {
        self.average() * self.kept(now)
    }

    /// The share of the average that is left by now.
    fn kept(&self, now: Instant) -> f64 {
        let stamp = Duration::from_micros(self.stamp.load(Ordering::Relaxed));
        let since = now.duration_since(self.origin).saturating_sub(stamp);
        (-since.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }

    fn set(&self, average: f64, now: Instant) {
        let since = now.duration_since(self.origin).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.average.store(average.to_bits(), Ordering::Relaxed);
        self.stamp.store(since, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn the_average_follows_a_change_and_one_stall_does_not_hide_it() {
        let load = Load::default();
        let mut now = Instant::now();
        let mut see = |millis: u32, times: u32| {
            for _ in 0..times {
                now += 50 * MS;
                load.saw(millis * MS, now);
            }
            load.cost(0, now)
        };
        assert!((0.09..0.11).contains(&see(100, 50)));
        let stalled = see(5_000, 1);
        assert!(stalled < 0.2, "{stalled}");
        assert!(see(1_000, 200) > 0.7);
        assert!(see(100, 600) < 0.2);
        assert!((load.cost(3, now) / load.cost(0, now) - 4.0).abs() < 1e-9);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_lets_a_slow_target_be_tried_again() {
        let (load, now) = (Load::default(), Instant::now());
        load.saw(4_000 * MS, now);
        assert!(load.cost(0, now + Duration::from_secs(30)) < 0.21);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_never_makes_a_target_faster() {
        let (load, now) = (Load::default(), Instant::now());
        load.saw(400 * MS, now);
        load.at_least(10 * MS, now);
        assert!((load.cost(0, now) - 0.4).abs() < 1e-6);
        load.at_least(900 * MS, now);
        assert!(load.cost(0, now) > 0.4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_target_gets_one_call_until_it_is_known() {
        let (load, now) = (Load::default(), Instant::now());
        assert!(load.cost(0, now) <= 0.0);
        assert!(load.cost(1, now) > 1e9);
    }
}
