//! How many jobs a second a provider takes that answers 429 and tells nothing else.
//!
//! Learned by additive increase and multiplicative decrease (Chiu and Jain, 1989). Promises: no
//! limit while no 429 was ever seen; nothing starts before a 429's `Retry-After` is over; 429s of
//! one moment slow down once. Moments are nanoseconds from an origin that the owner keeps.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The share of the rate that a 429 leaves.
const DECREASE: f64 = 0.5;

/// Seconds in which the rate grows back by what it was before: half of it is back in half of that.
const RECOVERY: f64 = 40.0;

/// Jobs a second below which no 429 brings the rate, and what it grows by each second at least.
const LEAST: f64 = 0.2;
const LEAST_GROWTH: f64 = 0.5;

/// The stretch of time whose jobs may start at once.
const BURST: u64 = 100_000_000;

const SECOND: f64 = 1e9;

/// A rate of jobs.
#[derive(Default)]
pub(super) struct Pace {
    /// No job starts before; zero: no 429 was seen.
    until: AtomicU64,
    /// Jobs a second at `until`, as the bits of an `f64`; zero: no limit.
    base: AtomicU64,
    /// What it grows by each second, likewise.
    growth: AtomicU64,
    /// When the next job is due at this rate.
    next: AtomicU64,
    /// Jobs of about the last second, decaying, and when that was so.
    recent: AtomicU64,
    recent_at: AtomicU64,
}

/// Why no job starts, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// A 429's `Retry-After` is not over.
    Refused(Duration),
    /// The learned rate.
    Paced(Duration),
}

fn float(bits: &AtomicU64) -> f64 {
    f64::from_bits(bits.load(Relaxed))
}

fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / SECOND
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND) as u64
}

impl Pace {
    /// A call that was sent at `sent` was refused for the rate; the provider wants `rest`.
    /// `learn`: nothing that it tells explains it.
    pub fn refused(&self, sent: u64, rest: Duration, learn: bool, now: u64) {
        let rest = u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX);
        let end = now.saturating_add(rest).max(1);
        let (rate, recent) = (self.rate(now), self.recent(now).max(LEAST));
        let before = self.until.fetch_max(end, Relaxed);
        // What was sent before the last hold ended tells nothing of the rate since.
        if learn && sent >= before {
            let rate = rate.map_or(recent, |rate| rate.min(recent));
            let growth = (rate / RECOVERY).max(LEAST_GROWTH);
            self.growth.store(growth.to_bits(), Relaxed);
            let base = (rate * DECREASE).max(LEAST);
            self.base.store(base.to_bits(), Relaxed);
        }
    }

    /// Jobs a second; `None`: no limit.
    pub fn rate(&self, now: u64) -> Option<f64> {
        let base = float(&self.base);
        let grown = seconds(self.until.load(Relaxed), now) * float(&self.growth);
        (base > 0.0).then_some(base + grown)
    }

    /// Jobs that may start now: at least one, or why none.
    pub fn room(&self, now: u64) -> Result<usize, Wait> {
        let until = self.until.load(Relaxed);
        if now < until {
            return Err(Wait::Refused(Duration::from_nanos(until - now)));
        }
        let Some(rate) = self.rate(now) else {
            return Ok(usize::MAX);
        };
        let next = self.next.load(Relaxed).max(now.saturating_sub(BURST));
        if next > now {
            return Err(Wait::Paced(Duration::from_nanos(next - now)));
        }
        Ok(1 + super::whole(seconds(next, now) * rate))
    }

    /// A job starts. Only the runner's task calls this.
    pub fn started(&self, now: u64) {
        let recent = self.recent(now) + 1.0;
        self.recent.store(recent.to_bits(), Relaxed);
        self.recent_at.store(now, Relaxed);
        if let Some(rate) = self.rate(now) {
            let next = self.next.load(Relaxed).max(now.saturating_sub(BURST));
            let next = next.saturating_add(nanoseconds(1.0 / rate));
            self.next.store(next, Relaxed);
        }
    }

    fn recent(&self, now: u64) -> f64 {
        // Jobs that were held are no sign of a lower rate.
        let from = self.recent_at.load(Relaxed).max(self.until.load(Relaxed));
        let since = seconds(from, now);
        float(&self.recent) * (-since).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// Runs jobs for so many milliseconds at a provider that takes so many a second and refuses
    /// the others; gives those that it took and those that it refused.
    fn run(pace: &Pace, from: u64, millis: u64, capacity: f64) -> (u32, u32) {
        let (mut taken, mut refused, mut bucket) = (0, 0, capacity / 10.0);
        for milli in from..from + millis {
            let now = milli * MILLI;
            bucket = (bucket + capacity / 1e3).min(capacity / 10.0);
            for _ in 0..pace.room(now).unwrap_or(0).min(3) {
                pace.started(now);
                if bucket >= 1.0 {
                    bucket -= 1.0;
                    taken += 1;
                } else {
                    refused += 1;
                    pace.refused(now, Duration::from_millis(100), true, now);
                }
            }
        }
        (taken, refused)
    }

    #[test]
    fn nothing_is_limited_while_no_429_was_seen() {
        let pace = Pace::default();
        (0..10_000).for_each(|_| pace.started(5));
        assert_eq!(pace.room(5), Ok(usize::MAX));
        assert_eq!(pace.rate(5), None);
    }

    #[test]
    fn nothing_starts_before_the_retry_after_is_over() {
        let pace = Pace::default();
        pace.refused(5, Duration::from_secs(3), true, 10);
        let rest = Duration::from_nanos(3_000_000_010 - 4_000);
        assert_eq!(pace.room(4_000), Err(Wait::Refused(rest)));
        assert!(pace.room(3_000_000_010).is_ok());
    }

    #[test]
    fn refusals_of_one_moment_slow_down_once() {
        let pace = Pace::default();
        (0..100).for_each(|_| pace.started(1_000));
        for _ in 0..20 {
            pace.refused(1_000, Duration::from_secs(1), true, 2_000);
        }
        let rate = pace.rate(2_000).expect("a limit");
        assert!((49.0..51.0).contains(&rate), "{rate}");
    }

    #[test]
    fn what_the_provider_explains_holds_and_teaches_nothing() {
        let pace = Pace::default();
        pace.refused(1_000, Duration::from_secs(1), false, 2_000);
        assert!(pace.room(2_000).is_err());
        assert_eq!(pace.room(2_000_000_000), Ok(usize::MAX));
    }

    #[test]
    fn it_settles_near_what_the_provider_takes_with_few_refusals() {
        let pace = Pace::default();
        run(&pace, 0, 20_000, 40.0);
        let (taken, refused) = run(&pace, 20_000, 120_000, 40.0);
        let rate = f64::from(taken) / 120.0;
        assert!((24.0..=40.0).contains(&rate), "{rate} a second");
        assert!(
            f64::from(refused) < f64::from(taken) * 0.01,
            "{refused} refused"
        );
    }

    #[test]
    fn it_follows_a_provider_that_takes_more_again() {
        let pace = Pace::default();
        run(&pace, 0, 60_000, 4.0);
        let (taken, _) = run(&pace, 60_000, 300_000, 1_000.0);
        assert!(taken > 3_000, "{taken} in five minutes");
    }
}
