//! When a second attempt is worth its price, read from a window.
//!
//! The fixed-percentile rule of Dean and Barroso (The Tail at Scale, CACM 2013), with a floor of
//! samples: of 50 samples a p95 can be off by a factor of five, of 200 by three.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::layout::{HOUR, micros};
use super::survival::Survival;

/// The delay after which to hedge: this percentile (0 to 100) of the window, or none while it
/// holds fewer samples than `min_samples`. Where the percentile lies among what was given up, it is
/// longer than all that was seen to its end: the longest of that is the delay.
pub fn hedge_delay(window: &Survival, percentile: f64, min_samples: u64) -> Option<Duration> {
    if window.samples() < min_samples.max(1) {
        return None;
    }
    window.quantile(percentile / 100.0).or(window.longest())
}

/// When a second attempt starts, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reissue {
    /// Wait for the first attempt, at most an hour.
    pub delay: Duration,
    /// Probability of the second one after it, 0 to 1.
    pub share: f64,
}

/// A rule that is set each second and read by each call: no lock. The delay in microseconds in
/// the upper half, the probability in 2⁻³² in the lower one.
pub struct AtomicReissue(AtomicU64);

/// No rule: no delay is that long.
const NONE: u64 = u64::MAX;

impl AtomicReissue {
    /// No rule known.
    pub const fn none() -> Self {
        Self(AtomicU64::new(NONE))
    }

    /// Sets it.
    pub fn set(&self, rule: Option<Reissue>) {
        let packed = rule.map_or(NONE, |rule| {
            // A share is no less than 0, and 1 is the largest fraction.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let share = (rule.share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u64;
            micros(rule.delay.min(HOUR)) << 32 | share
        });
        self.0.store(packed, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> Option<Reissue> {
        let packed = self.0.load(Ordering::Relaxed);
        (packed != NONE).then(|| Reissue {
            delay: Duration::from_micros(packed >> 32),
            share: (packed & u64::from(u32::MAX)) as f64 / f64::from(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::super::snapshot::Snapshot;
    use super::*;

    #[test]
    fn below_the_floor_of_samples_there_is_no_delay() {
        let series = Series::new(1);
        series.record_n(Duration::from_millis(100), 95);
        series.record_n(Duration::from_secs(2), 4);
        let survival = || Survival::of(&series.cumulative(), &Snapshot::default());
        assert_eq!(hedge_delay(&survival(), 95.0, 100), None);
        series.record(Duration::from_secs(2));
        let delay = hedge_delay(&survival(), 95.0, 100).unwrap();
        assert!((100..101).contains(&delay.as_millis()), "{delay:?}");
    }

    #[test]
    fn a_rule_is_read_back() {
        let rule = AtomicReissue::none();
        assert_eq!(rule.get(), None);
        for (seconds, share, read_back) in [(0, 0.0, 0), (5, 0.25, 5), (90_000, 1.0, 3_600)] {
            let set = Reissue {
                delay: Duration::from_secs(seconds),
                share,
            };
            rule.set(Some(set));
            let read = rule.get().unwrap();
            assert_eq!(read.delay, Duration::from_secs(read_back));
            assert!((read.share - share).abs() < 1e-9);
        }
        rule.set(None);
        assert_eq!(rule.get(), None);
    }
}
