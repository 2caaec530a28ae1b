//! How sure one can be of a share that was only sampled.

/// The normal quantile of 95%, one-sided.
const Z: f64 = 1.644_854;

/// The upper bound of a share (0 to 1) that was seen in so many samples, with 95% confidence: the
/// score interval (Wilson, JASA 1927), one-sided. Without samples it is 1.
pub fn upper_bound(share: f64, samples: f64) -> f64 {
    if samples <= 0.0 {
        return 1.0;
    }
    let per = Z * Z / samples;
    let spread = (share * (1.0 - share) * per + per * per / 4.0).max(0.0);
    ((share + per / 2.0 + spread.sqrt()) / (1.0 + per)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_wilsons_bound() {
        // The bound solves (u − p)² = z² · u(1 − u) / n for u above p.
        for (share, samples) in [(0.0, 100.0), (0.02, 100.0), (0.04, 5_000.0), (0.5, 10.0)] {
            let bound = upper_bound(share, samples);
            let (left, right) = (
                (bound - share).powi(2),
                Z * Z * bound * (1.0 - bound) / samples,
            );
            assert!(
                (left - right).abs() < 1e-12,
                "{share} of {samples}: {bound}"
            );
            assert!(bound > share);
        }
        assert!((upper_bound(0.0, 100.0) - 0.026_34).abs() < 1e-4);
        assert!((upper_bound(0.3, 0.0) - 1.0).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn more_samples_bring_it_closer(share in 0.0..0.99f64, samples in 1.0..1e6f64) {
            prop_assert!(upper_bound(share, 2.0 * samples) <= upper_bound(share, samples));
            prop_assert!(upper_bound(share, samples) >= share);
        }
    }
}
