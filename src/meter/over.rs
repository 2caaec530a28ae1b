//! What share of a route's calls is over a budget, though some were let go before they ended.
//!
//! A call that became a job or got an error at its deadline took longer than the budget that it had, and
//! nobody knows how much: it is right-censored there (Kaplan and Meier, 1958), as one whose caller left is
//! at its age. Promises: such a call is over each budget up to that, and unknown under a longer one;
//! nothing is guessed; no stream counts under a budget that the gateway does not hold it to.

use std::sync::Arc;
use std::time::Duration;

use super::tracked::{Metric, Tracked};
use super::{Meter, RouteMeter};
use crate::latency::Window;

/// Of calls under a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// Calls.
    pub count: u64,
    /// Took longer: a share of them.
    pub over: f64,
    /// Were let go before, so that it is not known: a share of them.
    pub unknown: f64,
}

/// Calls that were let go, by their age then and by the budget that they had.
pub(super) struct LetGo {
    age: Arc<Tracked>,
    budget: Arc<Tracked>,
}

impl LetGo {
    pub(super) fn new(meter: &Meter, route: &str, first_token: bool) -> Self {
        let track = |budget| {
            meter.track(
                Metric::LetGo {
                    first_token,
                    budget,
                },
                route,
                None,
            )
        };
        Self {
            age: track(false),
            budget: track(true),
        }
    }

    pub(super) fn record(&self, age: Duration, budget: Duration) {
        self.age.record(age);
        self.budget.record(budget);
    }

    /// Those over a budget of all that were seen, these among them.
    fn share(&self, seen: &Tracked, window: Window, limit: Duration) -> Share {
        let (seen, age, budget) = (seen.views(), self.age.views(), self.budget.views());
        let (seen, age) = (seen.window(window), age.window(window));
        let budget = budget.window(window);
        let count = seen.count();
        if count == 0 {
            return Share::default();
        }
        // Below the limit by more than a cell is wide: a budget that is the limit was missed.
        let missed = limit.mul_f64(0.998);
        let ended_over = seen
            .count_above(limit)
            .saturating_sub(age.count_above(limit));
        let let_go = budget.count_above(missed);
        let unknown = budget.count() - let_go;
        let share = |part: u64| (part as f64 / count as f64).min(1.0);
        Share {
            count,
            over: share(ended_over + let_go),
            unknown: share(unknown),
        }
    }
}

impl RouteMeter {
    /// What share of its calls takes longer than a limit; of streams, if it is one for their first tokens,
    /// else of those that are held to the budget for whole answers.
    pub fn over(&self, first_token: bool, window: Window, limit: Duration) -> Share {
        let (seen, let_go) = if first_token {
            (&self.first_token, &self.streams_let_go)
        } else {
            (&self.held, &self.let_go)
        };
        let_go.share(seen, window, limit)
    }

    /// A call was let go at its deadline, before one that it would have missed, or by its caller; a stream
    /// without a token yet, if `first_token`.
    pub fn lets_go(&self, first_token: bool, age: Duration, budget: Duration) {
        let of = if first_token {
            &self.streams_let_go
        } else {
            &self.let_go
        };
        of.record(age, budget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    /// Nine calls of 100 ms, and what else there is.
    fn route(further: impl Fn(&RouteMeter)) -> RouteMeter {
        let meter = Meter::new(1);
        let route = RouteMeter::new(&meter, "r");
        for _ in 0..9 {
            route.held.record(millis(100));
        }
        further(&route);
        meter.tick(Duration::ZERO);
        meter.tick(Duration::from_secs(10));
        route
    }

    fn let_go(route: &RouteMeter, age: u64, budget: u64) {
        route.held.record(millis(age));
        route.lets_go(false, millis(age), millis(budget));
    }

    fn told(route: &RouteMeter, limit: u64) -> (f64, f64) {
        let share = route.over(false, Window::Hour, millis(limit));
        assert_eq!(share.count, 10);
        (share.over, share.unknown)
    }

    #[test]
    fn a_call_that_was_let_go_is_over_its_budget_and_unknown_under_a_longer_one() {
        // Handed over 5 ms early.
        let route = route(|route| let_go(route, 1_495, 1_500));
        assert_eq!(told(&route, 50), (1.0, 0.0));
        assert_eq!(told(&route, 1_000), (0.1, 0.0));
        assert_eq!(told(&route, 1_500), (0.1, 0.0));
        assert_eq!(told(&route, 1_600), (0.0, 0.1));
    }

    #[test]
    fn a_call_that_was_told_at_once_is_over_the_budget_that_it_would_have_missed() {
        let route = route(|route| let_go(route, 0, 1_500));
        assert_eq!(told(&route, 1_500), (0.1, 0.0));
        assert_eq!(told(&route, 50), (1.0, 0.0));
        assert_eq!(told(&route, 2_000), (0.0, 0.1));
    }

    #[test]
    fn a_call_that_ended_late_is_known_whatever_the_budget() {
        let route = route(|route| route.held.record(millis(1_800)));
        assert_eq!(told(&route, 1_500), (0.1, 0.0));
        assert_eq!(told(&route, 2_000), (0.0, 0.0));
    }

    #[test]
    fn first_tokens_are_told_of_streams_alone() {
        let route = route(|route| let_go(route, 500, 500));
        let share = route.over(true, Window::Hour, millis(100));
        assert_eq!(share, Share::default());
    }
}
