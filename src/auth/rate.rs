//! How often a key may call, and how many of its calls may run at once.
//!
//! The rate is the generic cell rate algorithm (ITU-T I.371): one moment that every call moves on.
//! Promises: atomics only; a call that is refused costs its key nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// A key's counts; they outlive a reload.
pub(super) struct Live {
    origin: Instant,
    /// When the allowance will be full again, in nanoseconds from the origin.
    full_at: AtomicU64,
    running: AtomicUsize,
}

/// What a key may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// Nanoseconds in which one call comes back.
    unit: u64,
    /// The same for as many as may come at once.
    depth: u64,
}

impl Pace {
    /// `rate` calls a second, `burst` at once.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn new(rate: f64, burst: u32) -> Self {
        let unit = (1e9 / rate).clamp(1.0, 1e15) as u64;
        Self {
            unit,
            depth: unit.saturating_mul(u64::from(burst.max(1))),
        }
    }
}

impl Live {
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            full_at: AtomicU64::new(0),
            running: AtomicUsize::new(0),
        }
    }

    /// Counts a call, or tells how long until one may come.
    pub fn take(&self, pace: Pace, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.origin).as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let next = |full_at: u64| full_at.max(now).saturating_add(pace.unit);
        let most = now.saturating_add(pace.depth);
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            Some(next(full_at)).filter(|next| *next <= most)
        });
        let wait = |full_at| Duration::from_nanos(next(full_at).saturating_sub(most));
        taken.map(drop).map_err(wait)
    }

    /// Takes a place for a call; it is given back with `leave`.
    pub fn enter(&self, most: usize) -> bool {
        let entered = self.running.fetch_add(1, Relaxed) < most;
        if !entered {
            self.leave();
        }
        entered
    }

    pub fn leave(&self) {
        self.running.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_refusal_tells_when_to_come_again() {
        let (live, pace) = (Live::new(), Pace::new(2.0, 3));
        let began = live.origin;
        for _ in 0..3 {
            assert_eq!(live.take(pace, began), Ok(()));
        }
        let half = Duration::from_millis(500);
        assert_eq!(live.take(pace, began), Err(half));
        assert_eq!(live.take(pace, began + half), Ok(()));
        assert_eq!(live.take(pace, began + half), Err(half));
    }

    proptest! {
        #[test]
        fn no_span_has_more_than_its_burst_and_its_rate(
            rate in 1_u32..1_000,
            burst in 1_u32..50,
            gaps in prop::collection::vec(0_u64..50_000_000, 1..200),
        ) {
            let (live, pace) = (Live::new(), Pace::new(f64::from(rate), burst));
            let (mut now, mut taken) = (live.origin, Vec::new());
            for gap in gaps {
                now += Duration::from_nanos(gap);
                match live.take(pace, now) {
                    Ok(()) => taken.push(now),
                    // Whoever waits as told is taken, not a nanosecond earlier.
                    Err(wait) => {
                        prop_assert!(wait > Duration::ZERO);
                        prop_assert!(live.take(pace, now + wait - Duration::from_nanos(1)).is_err());
                    }
                }
            }
            for (at, from) in taken.iter().enumerate() {
                for (to, until) in taken.iter().enumerate().skip(at) {
                    let span = (*until - *from).as_secs_f64();
                    let most = f64::from(burst) + span * f64::from(rate) * 1.000_01 + 1e-6;
                    prop_assert!((to - at + 1) as f64 <= most + 1e-3, "{} in {span}", to - at + 1);
                }
            }
        }

        #[test]
        fn places_are_as_many_as_given(most in 0_usize..20, tries in 0_usize..40) {
            let live = Live::new();
            let entered = (0..tries).filter(|_| live.enter(most)).count();
            prop_assert_eq!(entered, tries.min(most));
            (0..entered).for_each(|_| live.leave());
            prop_assert_eq!(live.running.load(Relaxed), 0);
        }
    }
}
