//! Ejection by success rate: a target that fails much more often than its peers is left alone.
//!
//! Failures in a row miss a target that fails every second call. Envoy's rule for those, a rate
//! 1.9 standard deviations below the mean of the hosts, needs five of them: among two or three none
//! can lie that far out. Here each is held against its peers' pooled calls by a two-proportion
//! z-test with Yates's correction, and the gap must be wide as well: of many calls a tenth of a per
//! cent is significant and no reason. Promises: one at a time, the worst first, so that a bad
//! target does not hide another; at most half of a route's targets, and never its last open one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::target::Target;

/// Seconds between two comparisons.
const INTERVAL: u32 = 5;

/// Calls from which on an interval begins anew; fewer are compared, and kept for the next comparison: the
/// widest gap, one half, is certain from 14 on.
const WHOLE: u32 = 20;

/// Seconds after which also few calls are forgotten. Failures are fast and attract calls, so that what
/// its peers get of them may be few an interval, just when a target is to be held against them.
const OLD: u32 = 60;

/// Calls below which a target, or all its peers together, tell nothing.
const ENOUGH: u32 = 10;

/// Failures below which a target is left in: of fewer the test, an approximation, makes too much.
const FAILURES: u32 = 5;

/// How far below its peers' rate a target must be.
const MARGIN: f64 = 0.1;

/// One-sided p = 0.001.
const DEVIATIONS: f64 = 3.09;

/// Calls of one target, counted by the threads that make them.
#[derive(Debug, Default)]
pub struct Tally {
    succeeded: AtomicU32,
    failed: AtomicU32,
}

impl Tally {
    /// It answered.
    pub fn succeeded(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// It failed by itself.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn so_far(&self) -> Calls {
        Calls {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// What is compared: calls too few to be certain are kept for the next comparison, until `old`.
    fn told(&self, old: bool) -> Calls {
        let calls = self.so_far();
        if old || calls.total() >= WHOLE {
            return self.take();
        }
        calls
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Calls {
        Calls {
            succeeded: self.succeeded.swap(0, Ordering::Relaxed),
            failed: self.failed.swap(0, Ordering::Relaxed),
        }
    }
}

/// Calls of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Answered, also to say what the caller did wrong.
    pub succeeded: u32,
    /// Failed by the target itself.
    pub failed: u32,
}

impl Calls {
    /// All that told something.
    pub fn total(self) -> u32 {
        self.succeeded.saturating_add(self.failed)
    }

    fn rate(self) -> f64 {
        f64::from(self.succeeded) / f64::from(self.total().max(1))
    }

    fn with(self, other: Self) -> Self {
        Self {
            succeeded: self.succeeded.saturating_add(other.succeeded),
            failed: self.failed.saturating_add(other.failed),
        }
    }

    /// By how much its rate is below its peers', where that is no chance and wide enough.
    fn below(self, peers: Self) -> Option<f64> {
        let few = self.total() < ENOUGH || peers.total() < ENOUGH;
        if few || self.failed < FAILURES {
            return None;
        }
        let gap = peers.rate() - self.rate();
        let sizes = 1.0 / f64::from(self.total()) + 1.0 / f64::from(peers.total());
        let pooled = self.with(peers).rate();
        let deviation = (pooled * (1.0 - pooled) * sizes).sqrt();
        let significant = gap - sizes / 2.0 > DEVIATIONS * deviation;
        (gap >= MARGIN && significant).then_some(gap)
    }
}

/// The targets that fail much more often than the others, the worst first. `open`: which of them
/// calls are sent to now.
pub fn outliers(calls: &[Calls], open: &[bool]) -> SmallVec<[usize; 4]> {
    let mut out = SmallVec::new();
    let mut left: SmallVec<[usize; 8]> = (0..calls.len().min(open.len()))
        .filter(|at| open[*at])
        .collect();
    let closed = open.len() - left.len();
    let most = (open.len() / 2).saturating_sub(closed);
    while out.len() < most && left.len() > 1 {
        let gap = |at: usize| {
            let peers = left.iter().filter(|one| **one != at);
            let peers = peers.fold(Calls::default(), |sum, one| sum.with(calls[*one]));
            calls[at].below(peers)
        };
        let worst = left.iter().enumerate();
        let worst = worst.filter_map(|(place, at)| Some((place, gap(*at)?)));
        let Some((place, _)) = worst.max_by(|one, other| one.1.total_cmp(&other.1)) else {
            break;
        };
        out.push(left.remove(place));
    }
    out
}

/// Compares the targets of one route every few seconds.
#[derive(Debug, Default)]
pub struct Peers {
    seconds: AtomicU32,
}

impl Peers {
    /// Ejects those that fail much more often than the others; meant for once a second, on the
    /// clock's thread. Where a worker ejects another at the same moment for its failures in a row,
    /// no target may be open: then weights decide, as ever.
    pub fn compare(&self, targets: &[Arc<Target>], now: Instant) {
        let seconds = self.seconds.fetch_add(1, Ordering::Relaxed) + 1;
        if !seconds.is_multiple_of(INTERVAL) {
            return;
        }
        let calls: SmallVec<[Calls; 8]> = targets
            .iter()
            .map(|target| target.health.tally().told(seconds.is_multiple_of(OLD)))
            .collect();
        let open: SmallVec<[bool; 8]> = targets.iter().map(|target| target.is_open(now)).collect();
        let out = outliers(&calls, &open);
        for (at, target) in targets.iter().enumerate() {
            if out.contains(&at) {
                target.health.worse_than_peers(now);
            } else if open[at] && calls[at].total() >= ENOUGH {
                target.health.like_its_peers();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    fn calls(succeeded: u32, failed: u32) -> Calls {
        Calls { succeeded, failed }
    }

    fn found(all: &[Calls]) -> Vec<usize> {
        outliers(all, &vec![true; all.len()]).into_vec()
    }

    #[test]
    fn one_of_two_that_fails_every_second_call_is_found() {
        assert_eq!(found(&[calls(50, 50), calls(99, 1)]), [0]);
        assert_eq!(found(&[calls(200, 0), calls(10, 10), calls(200, 0)]), [1]);
    }

    #[test]
    fn few_calls_are_kept_for_the_next_comparison_until_they_are_old() {
        let tally = Tally::default();
        let count = |calls: u32| (0..calls).for_each(|_| tally.succeeded());
        count(6);
        assert_eq!(tally.told(false), calls(6, 0));
        count(6);
        assert_eq!(tally.told(false), calls(12, 0));
        count(8);
        assert_eq!(tally.told(false), calls(20, 0));
        count(1);
        assert_eq!(tally.told(true), calls(1, 0));
        assert_eq!(tally.told(false), calls(0, 0));
    }

    #[test]
    fn where_all_fail_alike_nobody_is_to_blame() {
        assert!(found(&[calls(50, 50), calls(48, 52)]).is_empty());
        assert!(found(&[calls(0, 80), calls(0, 90), calls(0, 70)]).is_empty());
    }

    #[test]
    fn a_gap_that_is_certain_and_small_ejects_nobody() {
        assert!(found(&[calls(95_000, 5_000), calls(99_900, 100)]).is_empty());
    }

    #[test]
    fn few_calls_tell_nothing() {
        assert!(found(&[calls(0, 9), calls(500, 0)]).is_empty());
        assert!(found(&[calls(0, 90), calls(9, 0)]).is_empty());
        // Two failures of ten are bad luck at a rate of one in a hundred.
        assert!(found(&[calls(8, 2), calls(198, 2)]).is_empty());
    }

    #[test]
    fn the_worst_goes_first_and_half_of_them_stay() {
        let all = [
            calls(60, 40),
            calls(10, 90),
            calls(100, 0),
            calls(50, 50),
            calls(99, 1),
        ];
        assert_eq!(found(&all), [1, 3]);
        assert!(outliers(&all, &[false, true, true, false, true]).is_empty());
        assert_eq!(
            outliers(&all, &[false, true, true, true, true]).as_slice(),
            [1]
        );
    }

    proptest! {
        #[test]
        fn a_route_always_keeps_an_open_target_and_half_of_them(
            all in prop::collection::vec((0..200u32, 0..200u32, any::<bool>()), 1..12),
        ) {
            let counted: Vec<Calls> = all.iter().map(|one| calls(one.0, one.1)).collect();
            let open: Vec<bool> = all.iter().map(|one| one.2).collect();
            let out = outliers(&counted, &open);
            let before = open.iter().filter(|open| **open).count();
            prop_assert!(out.iter().all(|at| open[*at]));
            prop_assert!(before == 0 || out.len() < before);
            let closed = open.len() - before + out.len();
            prop_assert!(out.is_empty() || closed <= open.len() / 2);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn targets_that_are_all_alike_are_almost_never_ejected(
            seed in any::<u64>(),
            rate in 0.0..=1.0f64,
            sizes in prop::collection::vec(1..300u32, 2..6),
        ) {
            const INTERVALS: usize = 1_000;
            let mut random = SmallRng::seed_from_u64(seed);
            let mut draw = |total: u32| {
                let failed = (0..total).filter(|_| random.random_bool(rate)).count();
                let failed = u32::try_from(failed).expect("it is at most the total");
                calls(total - failed, failed)
            };
            let ejected: usize = (0..INTERVALS)
                .map(|_| found(&sizes.iter().map(|size| draw(*size)).collect::<Vec<_>>()).len())
                .sum();
            // One in a thousand for each target, and room for chance.
            prop_assert!(ejected <= 5 + 2 * sizes.len(), "{ejected} of {INTERVALS}");
        }
    }
}
