//! What is left of one rate limit between two answers that tell it.
//!
//! A bucket that fills steadily and is kept as the moment at which it will be full (the generic
//! cell rate algorithm, ITU-T I.371): one number that every call moves on by its share. Promises:
//! atomics only; two writers at once lose one call's share at most, until the next answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::told::Line;

/// How long a whole quota takes to come back where the provider does not say: limits are mostly
/// stated per minute.
const MINUTE: f64 = 60e9;

/// The shortest time to a reset that is believed, as most are told in milliseconds.
const SHORTEST: f64 = 1e6;

/// One rate limit. Moments are nanoseconds from an origin that the owner keeps.
#[derive(Default)]
pub(super) struct Bucket {
    /// Zero: never told.
    limit: AtomicU64,
    /// Nanoseconds in which one unit comes back, as the bits of an `f64`.
    unit: AtomicU64,
    full_at: AtomicU64,
    /// When the call was sent whose answer told last.
    newest: AtomicU64,
    /// What jobs took, ever.
    taken: AtomicU64,
    /// What those took that were sent by now, or never will be.
    sent: AtomicU64,
}

impl Bucket {
    pub fn is_told(&self) -> bool {
        self.limit() > 0
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// What jobs took that were sent so far: an answer to a call of this moment tells nothing of
    /// the others.
    pub fn mark(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    fn unit(&self) -> f64 {
        f64::from_bits(self.unit.load(Relaxed))
    }

    /// An answer told the limit. Its call was sent at `sent`, when jobs that took `mark` had been.
    ///
    /// Whether a provider counts up to a call's arrival or up to its answer is not known, and at
    /// models there are seconds between. So the answer to the call that was sent last counts, less
    /// the jobs that were sent since or are still to be; an earlier call's answer can only tell that less is left.
    pub fn told(&self, line: Line, sent: u64, mark: u64, now: u64) {
        let newest = self.newest.fetch_max(sent, Relaxed) <= sent;
        let same = self.limit() == line.limit;
        let used = line.limit - line.remaining;
        if newest {
            let known = self.unit();
            let known = (same && known > 0.0).then_some(known);
            let unit = match line.reset {
                Some(reset) if used > 0 => unit_of(reset, used, known),
                _ => known.unwrap_or(MINUTE / line.limit as f64),
            };
            self.unit.store(unit.to_bits(), Relaxed);
            self.limit.store(line.limit, Relaxed);
        } else if !same {
            return;
        }
        let since = self.taken.load(Relaxed).saturating_sub(mark);
        let used = used.saturating_add(since).min(line.limit);
        let full_at = after(now, used as f64 * self.unit());
        if newest {
            self.full_at.store(full_at, Relaxed);
        } else {
            self.full_at.fetch_max(full_at, Relaxed);
        }
    }

    /// A call was sent that takes so much.
    pub fn spend(&self, units: u64, now: u64) {
        let limit = self.limit();
        if limit == 0 {
            return;
        }
        let unit = self.unit();
        let (took, empty) = (units as f64 * unit, after(now, limit as f64 * unit));
        self.full_at.update(Relaxed, Relaxed, |full_at| {
            after(full_at.max(now), took).min(empty)
        });
    }

    /// A job takes so much.
    pub fn job_takes(&self, units: u64, now: u64) {
        self.taken.fetch_add(units, Relaxed);
        self.spend(units, now);
    }

    /// The job that took so much was sent, or never will be.
    pub fn job_sent(&self, units: u64) {
        self.sent.fetch_add(units, Relaxed);
    }

    /// What is left; `None` where it was never told.
    pub fn left(&self, now: u64) -> Option<f64> {
        let limit = self.limit();
        let missing = self.full_at.load(Relaxed).saturating_sub(now) as f64 / self.unit();
        (limit > 0).then(|| (limit as f64 - missing).max(0.0))
    }

    /// Time until so much is left, if nothing is spent.
    pub fn wait_for(&self, wanted: f64, now: u64) -> Duration {
        let lacking = wanted - self.left(now).unwrap_or(wanted);
        Duration::try_from_secs_f64(lacking.max(0.0) * self.unit() / 1e9).unwrap_or(Duration::MAX)
    }
}

/// Nanoseconds in which one unit comes back, by how long all that is used takes.
///
/// What is left is told in whole units, so of those that are used the last may be back but for a
/// little: a bucket that is almost full would seem to fill many times as fast as it does. The truth
/// lies between what `used` and what one less would say, and what is known is kept as near as that
/// allows.
fn unit_of(reset: Duration, used: u64, known: Option<f64>) -> f64 {
    let reset = (reset.as_nanos() as f64).max(SHORTEST);
    let fastest = reset / used as f64;
    let slowest = if used > 1 {
        // It may have been cut to a millisecond.
        (reset + SHORTEST) / (used - 1) as f64
    } else {
        f64::INFINITY
    };
    known.unwrap_or(fastest).clamp(fastest, slowest)
}

/// A moment some nanoseconds later; past the end of time it is the end of time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn after(moment: u64, nanoseconds: f64) -> u64 {
    moment.saturating_add(nanoseconds as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn line(limit: u64, remaining: u64, seconds: u64) -> Line {
        Line {
            limit,
            remaining,
            reset: Some(Duration::from_secs(seconds)),
        }
    }

    fn left(bucket: &Bucket, now: u64) -> u64 {
        let left = bucket.left(now).expect("it was told");
        format!("{left:.0}").parse().expect("a number")
    }

    #[test]
    fn between_answers_it_is_what_was_told_less_what_was_sent_and_fills_up_to_its_reset() {
        let bucket = Bucket::default();
        assert_eq!(bucket.left(5), None);
        bucket.spend(1, 5);
        bucket.told(line(100, 40, 60), 0, 0, SECOND);
        assert_eq!(left(&bucket, SECOND), 40);
        bucket.spend(10, SECOND);
        assert_eq!(left(&bucket, SECOND), 30);
        assert_eq!(left(&bucket, 11 * SECOND), 40);
        assert_eq!(left(&bucket, 71 * SECOND), 100);
        assert_eq!(left(&bucket, 900 * SECOND), 100);
        assert_eq!(bucket.wait_for(35.0, SECOND), Duration::from_secs(5));
    }

    #[test]
    fn a_quiet_time_saves_no_more_than_the_limit() {
        let bucket = Bucket::default();
        bucket.told(line(100, 40, 60), 0, 0, 0);
        bucket.spend(30, 900 * SECOND);
        assert_eq!(left(&bucket, 900 * SECOND), 70);
        bucket.spend(500, 900 * SECOND);
        assert_eq!(left(&bucket, 900 * SECOND), 0);
        assert_eq!(left(&bucket, 901 * SECOND), 1);
    }

    #[test]
    fn jobs_that_were_sent_after_an_answers_call_are_not_given_back_by_it() {
        let bucket = Bucket::default();
        bucket.job_takes(20, 0);
        let mark = bucket.mark();
        bucket.job_takes(5, 0);
        bucket.job_sent(20);
        bucket.told(line(100, 60, 1), SECOND, mark, 3 * SECOND);
        assert_eq!(left(&bucket, 3 * SECOND), 35);
        bucket.job_sent(5);
        bucket.told(line(100, 40, 1), 4 * SECOND, bucket.mark(), 5 * SECOND);
        assert_eq!(left(&bucket, 5 * SECOND), 40);
    }

    #[test]
    fn an_earlier_calls_answer_can_only_tell_that_less_is_left() {
        let bucket = Bucket::default();
        bucket.told(line(100, 60, 40), 5 * SECOND, 0, 6 * SECOND);
        bucket.told(line(100, 95, 5), SECOND, 0, 6 * SECOND);
        assert_eq!(left(&bucket, 6 * SECOND), 60);
        bucket.told(line(100, 50, 50), SECOND, 0, 6 * SECOND);
        assert_eq!(left(&bucket, 6 * SECOND), 50);
        bucket.told(line(100, 90, 10), 6 * SECOND, 0, 7 * SECOND);
        assert_eq!(left(&bucket, 7 * SECOND), 90);
    }

    /// What a provider tells of a bucket in which so much is used: whole units, whole milliseconds.
    fn rounded(limit: u64, used: f64, unit: f64) -> Line {
        Line {
            limit,
            remaining: after(0, limit as f64 - used),
            reset: Some(Duration::from_millis(after(0, used * unit / 1e6))),
        }
    }

    #[test]
    fn a_bucket_that_is_almost_full_does_not_seem_to_fill_faster_than_it_does() {
        let (bucket, unit) = (Bucket::default(), 16_666_667.0);
        bucket.told(rounded(60, 1.0, unit), 0, 0, 0);
        for (sent, used) in [(1, 0.06), (2, 1.06), (3, 20.5), (4, 0.9), (5, 1.5)] {
            bucket.told(rounded(60, used, unit), sent, 0, sent);
            let filled = bucket.unit() / unit;
            assert!((0.9..1.1).contains(&filled), "{filled} after {used}");
        }
    }

    #[test]
    fn without_a_reset_it_fills_within_a_minute() {
        let bucket = Bucket::default();
        let silent = Line {
            limit: 60,
            remaining: 0,
            reset: None,
        };
        bucket.told(silent, 0, 0, 0);
        assert_eq!(left(&bucket, 10 * SECOND), 10);
    }

    proptest! {
        #[test]
        fn it_is_never_below_zero_nor_above_its_limit(
            limit in 1..u64::MAX >> 16,
            remaining in any::<u64>(),
            reset in 0..u64::MAX,
            steps in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20),
        ) {
            let bucket = Bucket::default();
            let line = Line {
                limit,
                remaining: remaining.min(limit),
                reset: Some(Duration::from_nanos(reset)),
            };
            bucket.told(line, 0, 0, 0);
            for (units, now) in steps {
                bucket.spend(units, now);
                let left = bucket.left(now).expect("it was told");
                prop_assert!((0.0..=limit as f64).contains(&left), "{left} of {limit}");
            }
        }
    }
}
