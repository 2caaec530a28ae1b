//! A compact histogram: small enough that every class of calls can have one.
//!
//! Log-linear as HdrHistogram's, 16 cells an octave, from 256 µs to one hour. Error bound: a cell is
//! no wider than 1/16 of what it counts, and a limit is taken as the nearest end of a cell, so it is
//! off by at most 1/32 (3.2%) of itself; below 4 ms by at most 128 µs. Counts are fractions, since
//! they wear off.

use std::time::Duration;

use super::layout::{HOUR, micros};

/// log2 of the microseconds that the narrowest cells hold.
const UNIT_BITS: u32 = 8;

/// log2 of the cells an octave.
const SUB_BITS: u32 = 4;
const SUB: usize = 1 << SUB_BITS;

/// All cells: an hour lies in the last octave.
pub(super) const CELLS: usize = 21 * SUB;

/// Samples at risk below which two curves are not compared.
const THIN: f64 = 8.0;

/// Where a duration is counted.
pub(super) fn cell(duration: Duration) -> usize {
    let micros = micros(duration.min(HOUR));
    let units = usize::try_from(micros >> UNIT_BITS).expect("an hour has 24 bits");
    let octave = units.max(SUB).ilog2() - SUB_BITS;
    octave as usize * SUB + (units >> octave)
}

/// The least duration of a cell, in microseconds.
fn low(cell: usize) -> u64 {
    let octave = (cell / SUB).saturating_sub(1);
    ((cell - octave * SUB) as u64) << octave << UNIT_BITS
}

/// The last cell that lies within a limit, to the nearest end of a cell; `None`: not even the first.
pub(super) fn within(limit: Duration) -> Option<usize> {
    let cell = cell(limit);
    let middle = u64::midpoint(low(cell), low(cell + 1));
    if micros(limit.min(HOUR)) < middle {
        cell.checked_sub(1)
    } else {
        Some(cell)
    }
}

/// How many samples each cell holds: those seen to their end, and those given up there.
#[derive(Clone)]
pub(super) struct Counts {
    pub ended: [f32; CELLS],
    pub given_up: [f32; CELLS],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            ended: [0.0; CELLS],
            given_up: [0.0; CELLS],
        }
    }
}

/// What is known at the end of a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// P(X > t).
    pub alive: f64,
    /// Samples at risk there.
    pub at_risk: f64,
    /// Samples that the estimate rests on: as many as without any given up, fewer with them (Peto
    /// and others, British Journal of Cancer 1977).
    pub samples: f64,
}

impl Counts {
    /// Samples.
    pub fn weight(&self) -> f64 {
        let all = self.ended.iter().chain(&self.given_up);
        all.map(|count| f64::from(*count)).sum()
    }

    /// Keeps this share of every sample.
    pub fn keep(&mut self, share: f32) {
        for count in self.ended.iter_mut().chain(&mut self.given_up) {
            *count *= share;
        }
    }

    /// Adds the samples of another.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.ended.iter_mut().zip(&other.ended) {
            *count += more;
        }
        for (count, more) in self.given_up.iter_mut().zip(&other.given_up) {
            *count += more;
        }
    }

    /// The product-limit estimate (see `survival`), cell by cell.
    pub fn curve(&self) -> impl Iterator<Item = Point> {
        let (mut alive, mut at_risk) = (1.0, self.weight());
        self.ended.iter().zip(&self.given_up).map(move |counts| {
            let (ended, given_up) = (f64::from(*counts.0), f64::from(*counts.1));
            if ended > 0.0 {
                alive *= (1.0 - ended / at_risk.max(ended)).max(0.0);
                at_risk = (at_risk - ended).max(0.0);
            }
            let point = Point {
                alive,
                at_risk,
                samples: at_risk / alive.max(f64::MIN_POSITIVE),
            };
            // What was given up in a cell was still at risk in it.
            at_risk = (at_risk - given_up).max(0.0);
            point
        })
    }

    /// Whether two sets of samples are hardly of one distribution (two-sample test of Kolmogorov and
    /// Smirnov, 1939, on product-limit curves): by chance once in 10,000 times.
    pub fn differs(&self, other: &Self) -> bool {
        // √(−ln(0.0001 / 2) / 2).
        const CRITICAL: f64 = 2.225;
        let (mine, theirs) = (self.weight(), other.weight());
        if mine < 1.0 || theirs < 1.0 {
            return false;
        }
        let known = |pair: &(Point, Point)| pair.0.at_risk.min(pair.1.at_risk) >= THIN;
        let pairs = self.curve().zip(other.curve()).take_while(known);
        let apart = pairs.map(|(one, two)| (one.alive - two.alive).abs());
        apart.fold(0.0, f64::max) > CRITICAL * ((mine + theirs) / (mine * theirs)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::super::survival::Survival;
    use super::*;
    use proptest::prelude::*;

    pub fn of(ended: &[u64], given_up: &[u64]) -> Counts {
        let mut counts = Counts::default();
        for millis in ended {
            counts.ended[cell(Duration::from_millis(*millis))] += 1.0;
        }
        for millis in given_up {
            counts.given_up[cell(Duration::from_millis(*millis))] += 1.0;
        }
        counts
    }

    #[test]
    fn the_longest_duration_has_a_cell() {
        assert!(cell(Duration::MAX) < CELLS);
        assert_eq!(cell(Duration::ZERO), 0);
    }

    proptest! {
        #[test]
        fn a_value_lies_within_its_cell_and_a_limit_is_off_by_a_32nd(value in 0..3_600_000_000u64) {
            let duration = Duration::from_micros(value);
            let at = cell(duration);
            prop_assert!(low(at) <= value && value < low(at + 1));
            let end = within(duration).map_or(0, |last| low(last + 1));
            let bound = (value / 32).max(1 << (UNIT_BITS - 1));
            prop_assert!(end.abs_diff(value) <= bound, "{end} for {value}");
        }

        #[test]
        fn its_curve_is_that_of_the_fine_cells(
            ended in prop::collection::vec(1..60_000u64, 1..200),
            given_up in prop::collection::vec(1..60_000u64, 0..100),
        ) {
            // Values far enough apart that both layouts keep their order.
            let spread = |all: &[u64]| all.iter().map(|one| 1_000 * (one / 1_000) + 1_000).collect();
            let (ended, given_up): (Vec<u64>, Vec<u64>) = (spread(&ended), spread(&given_up));
            let counts = of(&ended, &given_up);
            let fine = |all: &[u64]| {
                let series = Series::new(1);
                for one in all {
                    // To the same cell: its least value.
                    let value = low(cell(Duration::from_millis(*one)));
                    series.record(Duration::from_micros(value));
                }
                series.cumulative()
            };
            let oracle = Survival::of(&fine(&ended), &fine(&given_up));
            for (at, point) in counts.curve().enumerate() {
                let told = oracle.beyond(Duration::from_micros(low(at + 1) - 1));
                prop_assert!((told - point.alive).abs() < 1e-3, "{at}: {point:?}, not {told}");
            }
        }
    }

    #[test]
    fn without_any_given_up_every_sample_counts_and_with_them_those_at_risk() {
        let all: Vec<u64> = (1..=100).map(|step| step * 100).collect();
        for point in of(&all, &[]).curve().take_while(|one| one.alive > 0.01) {
            assert!((point.samples - 100.0).abs() < 0.1, "{point:?}");
        }
        let last = of(&[], &[1_000; 80]).curve().last();
        let beyond = last.expect("there are cells");
        assert!(beyond.samples < 1e-6 && beyond.alive > 0.99, "{beyond:?}");
    }

    #[test]
    fn a_change_of_speed_is_told_from_chance() {
        let times = |scale: u64, count: u64| -> Vec<u64> {
            (0..count)
                .map(|step| scale * (500 + (step * 7_919) % 1_000))
                .collect()
        };
        let usual = of(&times(1, 1_000), &[]);
        assert!(!usual.differs(&of(&times(1, 32), &[])));
        assert!(usual.differs(&of(&times(3, 32), &[])));
        // Given up at 900 ms for want of patience: that is no change.
        let (seen, lost): (Vec<u64>, Vec<u64>) =
            times(1, 32).iter().partition(|millis| **millis < 900);
        assert!(!usual.differs(&of(&seen, &vec![900; lost.len()])));
    }
}
