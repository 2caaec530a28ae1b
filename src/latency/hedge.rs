//! When a second attempt is worth its price, read from a window.
//!
//! The fixed-percentile rule of Dean and Barroso (The Tail at Scale, CACM 2013), with a floor of
//! samples: of 50 samples a p95 can be off by a factor of five, of 200 by three.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::snapshot::Snapshot;

/// The delay after which to hedge: this percentile (0 to 100) of the window, or none while it
/// holds fewer samples than `min_samples`.
pub fn hedge_delay(window: &Snapshot, percentile: f64, min_samples: u64) -> Option<Duration> {
    (window.count() >= min_samples.max(1)).then(|| window.quantile(percentile / 100.0))
}

/// A delay that is set each second and read by each call: no lock. Resolution 1 µs.
pub struct AtomicDelay(AtomicU64);

impl AtomicDelay {
    /// No delay known.
    pub const fn none() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Sets it.
    pub fn set(&self, delay: Option<Duration>) {
        let micros = delay.map_or(u64::MAX, |delay| {
            u64::try_from(delay.as_micros()).unwrap_or(u64::MAX - 1)
        });
        self.0.store(micros, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::*;

    #[test]
    fn below_the_floor_of_samples_there_is_no_delay() {
        let series = Series::new(1);
        series.record_n(Duration::from_millis(100), 95);
        series.record_n(Duration::from_secs(2), 4);
        assert_eq!(hedge_delay(&series.cumulative(), 95.0, 100), None);
        series.record(Duration::from_secs(2));
        let delay = hedge_delay(&series.cumulative(), 95.0, 100).unwrap();
        assert!((100..101).contains(&delay.as_millis()), "{delay:?}");
    }

    #[test]
    fn a_delay_is_read_back() {
        let delay = AtomicDelay::none();
        assert_eq!(delay.get(), None);
        delay.set(Some(Duration::from_millis(5)));
        assert_eq!(delay.get(), Some(Duration::from_millis(5)));
        delay.set(None);
        assert_eq!(delay.get(), None);
    }
}
