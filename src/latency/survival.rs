//! How long something takes when part of it was never seen to its end.
//!
//! The product-limit estimator (Kaplan and Meier, JASA 1958): a sample that was given up counts
//! as "longer than its age" and not as its age. Without it, a policy that cancels slow calls would
//! learn from its own effect that there are none.

use std::time::Duration;

use super::layout::micros;
use super::snapshot::Snapshot;

/// P(X > t) as a falling step function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survival {
    /// Microseconds at which it falls, ascending, and its value from there on.
    steps: Vec<(u64, f64)>,
    samples: u64,
}

impl Survival {
    /// Of samples seen to their end and of samples given up, both in the same cells.
    pub fn of(ended: &Snapshot, given_up: &Snapshot) -> Self {
        let mut at_risk = ended.count() + given_up.count();
        let samples = at_risk;
        let mut lost = given_up.values().peekable();
        let mut alive = 1.0;
        let mut steps = Vec::new();
        for (value, count) in ended.values() {
            // What was given up earlier is no longer at risk here; in the same cell it still is.
            while let Some((_, gone)) = lost.next_if(|(other, _)| *other < value) {
                at_risk -= gone;
            }
            alive *= 1.0 - count as f64 / at_risk.max(1) as f64;
            at_risk -= count;
            steps.push((value, alive));
        }
        Self { steps, samples }
    }

    /// Samples, those given up among them.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// P(X > t).
    pub fn beyond(&self, time: Duration) -> f64 {
        self.beyond_micros(micros(time))
    }

    pub(super) fn beyond_micros(&self, time: u64) -> f64 {
        match self.steps.partition_point(|(at, _)| *at <= time) {
            0 => 1.0,
            after => self.steps[after - 1].1,
        }
    }

    /// Microseconds at which it falls.
    pub(super) fn moments(&self) -> impl ExactSizeIterator<Item = u64> {
        self.steps.iter().map(|(at, _)| *at)
    }

    /// The longest time seen to its end.
    pub fn longest(&self) -> Option<Duration> {
        self.steps.last().map(|(at, _)| Duration::from_micros(*at))
    }

    /// The least time by which this share (0 to 1) has ended; `None`: no sample tells.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        // Products of rounded factors: a share is reached when it is reached to a billionth.
        let left = 1.0 - share + 1e-9;
        let found = self.steps.iter().find(|(_, alive)| *alive <= left);
        found.map(|(at, _)| Duration::from_micros(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_textbooks_estimate() {
        // Ends at 1, 3 and 4; given up at 2 and 4: 1 − 1/5, then · (1 − 1/3), then · (1 − 1/2).
        let survival = Survival::of(&Snapshot::of(&[1, 3, 4]), &Snapshot::of(&[2, 4]));
        for (millis, wanted) in [(0, 1.0), (1, 0.8), (2, 0.8), (3, 0.533_333), (9, 0.266_667)] {
            let told = survival.beyond(Duration::from_millis(millis) + Duration::from_micros(9));
            assert!((told - wanted).abs() < 1e-5, "{millis} ms: {told}");
        }
        assert_eq!(survival.samples(), 5);
        assert_eq!(survival.quantile(0.9), None);
    }

    proptest! {
        #[test]
        fn with_nothing_given_up_it_is_the_histogram(
            values in prop::collection::vec(1..5_000u64, 1..200),
            share in 0.01..1.0f64,
        ) {
            let ended = Snapshot::of(&values);
            let survival = Survival::of(&ended, &Snapshot::default());
            prop_assert_eq!(survival.quantile(share), Some(ended.quantile(share)));
        }

        #[test]
        fn giving_up_what_is_slow_hides_no_tail(limit in 40..900u64) {
            // 1,000 values from 1 ms to 1 s; half of what is above the limit is given up there.
            let all: Vec<u64> = (1..=1_000).collect();
            let (lost, seen): (Vec<u64>, Vec<u64>) =
                all.iter().partition(|value| **value > limit && **value % 2 == 0);
            let lost: Vec<u64> = lost.iter().map(|_| limit).collect();
            let survival = Survival::of(&Snapshot::of(&seen), &Snapshot::of(&lost));
            for millis in [100, 500, 900, 990] {
                let told = survival.beyond(Duration::from_millis(millis));
                let wanted = 1.0 - millis as f64 / 1e3;
                prop_assert!((told - wanted).abs() < 0.02, "{millis} ms: {told}, not {wanted}");
            }
        }
    }
}
