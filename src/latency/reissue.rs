//! When a second attempt pays, and how often: SingleR of Kaler, He and Elnikety (Optimal Reissue
//! Policies for Reducing Tail Latency, SPAA 2017).
//!
//! A call without an answer after `delay` is sent again with probability `share`. Of all such
//! pairs that add at most `budget` calls per call, the one that lets the target percentile fall
//! lowest: P(answer ≤ t) = P(X ≤ t) + share · P(X > t) · P(Y ≤ t − delay), where X is the first
//! attempt's time and Y the second's, given that the first was slow. Pure; some milliseconds for
//! thousands of cells, so meant for the clock's thread.

use std::time::Duration;

use super::layout::{HOUR, micros};
use super::survival::Survival;

/// Delays tried at most, spread over the cells of the window.
const DELAYS: usize = 400;

/// A policy must cut the percentile by this share to be worth a call.
const WORTH: f64 = 0.01;

/// A reissue policy and what it promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Wait this long for the first attempt.
    pub delay: Duration,
    /// Then send again with this probability, 0 to 1.
    pub share: f64,
    /// The target percentile with it.
    pub predicted: Duration,
    /// The target percentile without it; `None` where no sample tells.
    pub without: Option<Duration>,
}

/// The best policy for a target share (0.99 for the p99) under a budget of extra calls per call;
/// `None` where none cuts the percentile.
pub fn best(first: &Survival, second: &Survival, target: f64, budget: f64) -> Option<Policy> {
    let without = first.quantile(target);
    let mut best: Option<Policy> = None;
    let stride = first.moments().len().div_ceil(DELAYS).max(1);
    for delay in first.moments().step_by(stride) {
        let slow = first.beyond_micros(delay);
        if slow <= 0.0 {
            break;
        }
        let share = (budget / slow).min(1.0);
        let answered = |time: u64| {
            let again = 1.0 - second.beyond_micros(time.saturating_sub(delay));
            1.0 - first.beyond_micros(time) * (1.0 - share * again)
        };
        let limit = best.map_or(without, |best| Some(best.predicted));
        let limit = limit.map_or(micros(HOUR), micros);
        let Some(predicted) = reached(delay, limit, target, answered) else {
            continue;
        };
        best = Some(Policy {
            delay: Duration::from_micros(delay),
            share,
            predicted: Duration::from_micros(predicted),
            without,
        });
    }
    best.filter(|best| without.is_none_or(|without| best.predicted <= without.mul_f64(1.0 - WORTH)))
}

/// The least time above `from` and below `limit` at which a rising share reaches its target.
fn reached(from: u64, limit: u64, target: f64, share: impl Fn(u64) -> f64) -> Option<u64> {
    let (mut low, mut high) = (from, limit.checked_sub(1)?);
    if high <= low || share(high) < target {
        return None;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if share(middle) >= target {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::super::snapshot::Snapshot;
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    fn survival(seconds: impl Iterator<Item = f64>) -> Survival {
        let series = Series::new(1);
        for value in seconds {
            series.record(Duration::from_secs_f64(value));
        }
        Survival::of(&series.cumulative(), &Snapshot::default())
    }

    fn normal(random: &mut StdRng) -> f64 {
        // Box and Muller (1958).
        let (one, two): (f64, f64) = (random.random(), random.random());
        (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * two).cos()
    }

    /// A model's first token: 0.4 s · LN(0.5), and for 3% a stall of 3 to 10 s.
    fn model(random: &mut StdRng) -> f64 {
        if random.random::<f64>() < 0.03 {
            random.random_range(3.0..10.0)
        } else {
            0.4 * (0.5 * normal(random)).exp()
        }
    }

    #[test]
    fn it_finds_the_policies_that_were_computed_for_a_models_first_token() {
        let mut random = StdRng::seed_from_u64(5);
        let times = survival((0..400_000).map(|_| model(&mut random)));
        // Budget, and the p99 that a coarser sweep found; a finer one may find a little less.
        for (budget, with) in [(0.02, 3.80), (0.03, 2.03), (0.05, 1.64)] {
            let policy = best(&times, &times, 0.99, budget).expect("it pays");
            let ratio = policy.predicted.as_secs_f64() / with;
            assert!((0.92..1.03).contains(&ratio), "{budget}: {policy:?}");
            let without = policy.without.expect("samples tell").as_secs_f64();
            assert!((without / 7.61 - 1.0).abs() < 0.02, "{policy:?}");
            let spent = policy.share * times.beyond(policy.delay);
            assert!(spent <= budget * 1.001, "{policy:?} spends {spent}");
        }
    }

    #[test]
    fn a_second_call_that_would_be_as_slow_is_not_made() {
        let times = survival((0..1_000).map(|_| 1.0));
        assert_eq!(best(&times, &times, 0.99, 0.1), None);
        let none = Survival::default();
        assert_eq!(best(&none, &none, 0.99, 0.1), None);
        let spread = survival((1..1_000).map(f64::from).map(|value| value / 1e3));
        assert_eq!(best(&spread, &spread, 0.99, 0.0), None);
    }

    #[test]
    fn what_is_promised_is_what_happens() {
        let mut random = StdRng::seed_from_u64(11);
        let times = survival((0..100_000).map(|_| model(&mut random)));
        let policy = best(&times, &times, 0.99, 0.03).expect("it pays");
        let (mut again, mut took) = (0, Vec::new());
        for _ in 0..200_000 {
            let first = model(&mut random);
            let delay = policy.delay.as_secs_f64();
            if first > delay && random.random::<f64>() < policy.share {
                again += 1;
                took.push(first.min(delay + model(&mut random)));
            } else {
                took.push(first);
            }
        }
        took.sort_by(f64::total_cmp);
        let achieved = took[took.len() * 99 / 100];
        assert!(
            (achieved / policy.predicted.as_secs_f64() - 1.0).abs() < 0.1,
            "{achieved}"
        );
        assert!(f64::from(again) / 200_000.0 < 0.031);
    }
}
