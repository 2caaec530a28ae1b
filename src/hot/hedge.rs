//! After how long a route's calls are sent a second time, and how many of them.
//!
//! Learned once a second on the clock's thread, from what the windows say; a call reads one
//! number. Streams and other answers are learned apart: a first token is no whole answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::config::{self, HedgeAfter};
use crate::latency::{AtomicReissue, Policy, Reissue, Window, best_policy, hedge_delay};
use crate::meter::{Lines, Sampled};

/// The percentile that `auto` cuts.
const TARGET: f64 = 0.99;

/// Samples that must lie beyond a percentile for a minute to be enough.
const BEYOND: f64 = 10.0;

/// Second attempts below which they are taken to be like first ones.
const SECONDS: u64 = 100;

/// Share of the cap that `auto` means to spend: the rest keeps the bucket from running dry in a run
/// of slow calls.
const SPENT: f64 = 0.95;

/// What it plans with is steered so that this share is spent: where slow calls come in runs, the
/// bucket denies some of them, and their hedges are better spent elsewhere. Per second.
const GAIN: f64 = 0.03;
const PLAN: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// The second attempts of one kind of call.
pub struct Line {
    /// First attempts.
    pub first: Arc<Sampled>,
    /// Second attempts.
    pub second: Arc<Sampled>,
    rule: AtomicReissue,
    policy: ArcSwapOption<Policy>,
    /// Samples that the policy was learned from, to leave an idle route alone.
    learned_from: AtomicU64,
    /// Share of the cap that is planned with, as the bits of an `f64`.
    plan: AtomicU64,
}

impl Line {
    /// A line that has learned nothing.
    pub fn new(lines: &Lines) -> Self {
        Self {
            first: lines.first.clone(),
            second: lines.second.clone(),
            rule: AtomicReissue::none(),
            policy: ArcSwapOption::empty(),
            learned_from: AtomicU64::new(u64::MAX),
            plan: AtomicU64::new(SPENT.to_bits()),
        }
    }

    /// When and how often a second attempt starts now.
    pub fn rule(&self) -> Option<Reissue> {
        self.rule.get()
    }

    /// What `auto` chose and promises.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.load_full()
    }

    /// Learns from the windows; meant for once a second.
    pub fn learn(&self, settings: &config::Hedge) {
        let always = |delay| Reissue { delay, share: 1.0 };
        let rule = match settings.after {
            HedgeAfter::Off => None,
            HedgeAfter::Fixed(period) => Some(always(period.get())),
            HedgeAfter::Percentile(percentile) => {
                let window = self
                    .first
                    .survival(self.window(percentile / 100.0, settings));
                hedge_delay(&window, percentile, settings.min_samples).map(always)
            }
            HedgeAfter::Auto => {
                self.optimize(settings);
                self.policy().map(|policy| Reissue {
                    delay: policy.delay,
                    share: policy.share,
                })
            }
        };
        self.rule.set(rule);
    }

    /// The shortest window with enough samples for a share: the sooner a change is seen.
    fn window(&self, share: f64, settings: &config::Hedge) -> Window {
        // A window has fewer samples than 2^52.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let enough = (BEYOND / (1.0 - share)) as u64;
        if self.first.count(Window::Minute) >= enough.max(settings.min_samples) {
            Window::Minute
        } else {
            Window::FiveMinutes
        }
    }

    /// Steers what is planned by what was spent.
    fn plan(&self, window: Window, cap: f64) -> f64 {
        let plan = f64::from_bits(self.plan.load(Ordering::Relaxed));
        let spent = self.second.count(window) as f64 / self.first.count(window).max(1) as f64;
        if spent <= 0.0 || cap <= 0.0 {
            return plan;
        }
        let steered = plan * (SPENT * cap / spent).clamp(0.5, 2.0).powf(GAIN);
        let steered = steered.clamp(*PLAN.start(), *PLAN.end());
        self.plan.store(steered.to_bits(), Ordering::Relaxed);
        steered
    }

    fn optimize(&self, settings: &config::Hedge) {
        let samples = self.first.count(Window::FiveMinutes);
        if self.learned_from.swap(samples, Ordering::Relaxed) == samples {
            return;
        }
        let window = self.window(TARGET, settings);
        let first = self.first.survival(window);
        let policy = (first.samples() >= settings.min_samples.max(1))
            .then(|| {
                let second = self.second.survival(window);
                let known = second.samples() >= SECONDS;
                let second = if known { &second } else { &first };
                let plan = self.plan(window, settings.max_extra);
                best_policy(&first, second, TARGET, plan * settings.max_extra)
            })
            .flatten();
        self.policy.store(policy.map(Arc::new));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::meter::{Meter, RouteMeter};

    const MS: Duration = Duration::from_millis(1);

    struct Learning {
        meter: Arc<Meter>,
        line: Line,
        second: u64,
    }

    impl Learning {
        fn new() -> Self {
            let meter = Meter::new(1);
            let line = Line::new(&RouteMeter::new(&meter, "r").streams);
            Self {
                meter,
                line,
                second: 0,
            }
        }

        fn learn(&mut self, after: HedgeAfter) -> Option<Reissue> {
            self.second += 1;
            self.meter.tick(Duration::from_secs(self.second));
            let settings = config::Hedge {
                after,
                ..config::Hedge::default()
            };
            self.line.learn(&settings);
            self.line.rule()
        }

        /// Calls of 38 to 42 ms, and a share in a thousand of 400 ms.
        fn see(&self, calls: u32, slow_in_a_thousand: u32) {
            for call in 0..calls {
                let slow = call % 1_000 < slow_in_a_thousand;
                let took = if slow { 400 * MS } else { (38 + call % 5) * MS };
                self.line.first.ended(took);
            }
        }
    }

    #[test]
    fn auto_waits_for_samples_and_then_hedges_what_is_slow_within_its_cap() {
        let mut learning = Learning::new();
        learning.see(100, 40);
        assert_eq!(learning.learn(HedgeAfter::Auto), None);
        learning.see(5_000, 40);
        let rule = learning.learn(HedgeAfter::Auto).expect("it pays");
        assert!((40 * MS..100 * MS).contains(&rule.delay), "{rule:?}");
        let policy = learning.line.policy().expect("it is told");
        assert!(policy.predicted < 100 * MS, "{policy:?}");
        assert!(policy.without.expect("samples tell") >= 400 * MS);
        assert_eq!(learning.learn(HedgeAfter::Off), None);
    }

    #[test]
    fn auto_does_not_hedge_where_every_call_is_alike() {
        let mut learning = Learning::new();
        learning.see(5_000, 0);
        let rule = learning.learn(HedgeAfter::Auto);
        let predicted = learning.line.policy().map(|policy| policy.predicted);
        assert_eq!(rule, None, "{predicted:?}");
    }

    #[test]
    fn second_attempts_that_are_slow_too_end_the_hedging() {
        let mut learning = Learning::new();
        learning.see(5_000, 40);
        assert!(learning.learn(HedgeAfter::Auto).is_some());
        // Whatever is slow is slow on every target.
        for _ in 0..200 {
            learning.line.second.ended(400 * MS);
        }
        learning.see(1, 0);
        assert_eq!(learning.learn(HedgeAfter::Auto), None);
    }

    #[test]
    fn what_its_own_hedges_gave_up_does_not_lower_a_percentile() {
        let mut learning = Learning::new();
        // Of 1,000 calls 80 are slow; hedged at 50 ms, their first attempts are given up at 90.
        for call in 0..1_000u32 {
            if call < 80 {
                learning.line.first.given_up(90 * MS);
            } else {
                learning.line.first.ended(40 * MS);
            }
        }
        let rule = learning.learn(HedgeAfter::Percentile(90.0));
        let delay = rule.expect("the samples tell").delay;
        assert!((40 * MS..41 * MS).contains(&delay), "{delay:?}");
        // The p95 lies beyond all that was seen to its end: the route goes on hedging after that.
        assert_eq!(learning.learn(HedgeAfter::Percentile(95.0)), rule);
    }
}
