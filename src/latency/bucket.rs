//! A token bucket that is filled by calls, not by time: at most so many extra calls per call.
//!
//! The retry budget of Finagle and gRPC (A6), used for hedges and retries. Promises: over any
//! stretch the tokens spent are at most `ratio` per call and one bucketful. Never locks.

use std::sync::atomic::{AtomicU64, Ordering};

/// One token, in the unit of the counter.
const TOKEN: u64 = 1_000_000;

/// The bucket.
pub struct RatioBucket {
    units: AtomicU64,
    per_call: u64,
    capacity: u64,
}

impl RatioBucket {
    /// An empty bucket: `ratio` tokens per call (0 to 1,000), at most `capacity` of them saved.
    pub fn new(ratio: f64, capacity: u32) -> Self {
        // A ratio is not negative, and a millionth of a token is fine enough.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let per_call = (ratio.clamp(0.0, 1_000.0) * TOKEN as f64).round() as u64;
        Self {
            units: AtomicU64::new(0),
            per_call,
            capacity: u64::from(capacity) * TOKEN,
        }
    }

    /// The same with tokens in it from the start; none where no call adds any.
    #[must_use]
    pub fn with_initial(self, tokens: u32) -> Self {
        let tokens = if self.per_call > 0 { tokens } else { 0 };
        let units = (u64::from(tokens) * TOKEN).min(self.capacity);
        Self {
            units: AtomicU64::new(units),
            ..self
        }
    }

    /// A call happened.
    pub fn earn(&self) {
        if self.per_call > 0 {
            self.put(self.per_call);
        }
    }

    /// Takes a token if there is one.
    pub fn try_spend(&self) -> bool {
        self.units
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |units| {
                units.checked_sub(TOKEN)
            })
            .is_ok()
    }

    /// Gives back a token that was taken and not used.
    pub fn refund(&self) {
        self.put(TOKEN);
    }

    fn put(&self, units: u64) {
        // A full bucket is not written: under steady load its cache line stays shared.
        let _ = self
            .units
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                (held < self.capacity).then(|| (held + units).min(self.capacity))
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spending_never_passes_the_ratio_and_one_bucketful(
            ratio in 0.0..1.0f64,
            capacity in 0..20u32,
            steps in prop::collection::vec(any::<bool>(), 0..2_000),
        ) {
            let bucket = RatioBucket::new(ratio, capacity);
            let (mut calls, mut spent) = (0u32, 0u32);
            for call in steps {
                if call {
                    bucket.earn();
                    calls += 1;
                } else if bucket.try_spend() {
                    spent += 1;
                }
            }
            prop_assert!(f64::from(spent) <= f64::from(calls) * (ratio + 1e-6));
        }
    }

    #[test]
    fn a_bucket_saves_at_most_its_capacity() {
        let bucket = RatioBucket::new(1.0, 3).with_initial(1);
        (0..10).for_each(|_| bucket.earn());
        let spent = (0..10).filter(|_| bucket.try_spend()).count();
        assert_eq!(spent, 3);
        bucket.refund();
        assert!(bucket.try_spend());
    }

    #[test]
    fn a_cap_of_zero_is_zero_from_the_start() {
        assert!(!RatioBucket::new(0.0, 9).with_initial(9).try_spend());
        assert!(RatioBucket::new(0.01, 9).with_initial(9).try_spend());
    }
}
