//! Counters by route, read from the text that a scrape gets: the exporter's counters can only be
//! counted on and rendered.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Flow, Hedges};
use crate::meter::{escaped, label};

/// Rates are told over so long.
const OVER: Duration = Duration::from_secs(5);

/// What was counted of every route, by its escaped name.
#[derive(Default)]
pub struct Counts(HashMap<String, Flow<u64>>);

impl Counts {
    /// Reads a text in Prometheus's format.
    pub fn read(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            all.take(line);
        }
        all
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (name, _) = line.split_once('{')?;
        let by = match name {
            "shunt_requests_total" => "outcome",
            "shunt_hedges_total" => "result",
            "shunt_budget_exceeded_total" => "action",
            _ => return None,
        };
        let (route, by) = (label(line, "route")?, label(line, by)?);
        let count: u64 = line.rsplit_once(' ')?.1.parse().ok()?;
        let flow = match self.0.get_mut(route) {
            Some(flow) => flow,
            None => self.0.entry(route.to_owned()).or_default(),
        };
        let hedges = &mut flow.hedges;
        let cell = match (name, by) {
            ("shunt_budget_exceeded_total", _) => {
                flow.over_budget += count;
                return None;
            }
            ("shunt_hedges_total", "won") => &mut hedges.won,
            ("shunt_hedges_total", "lost") => &mut hedges.lost,
            ("shunt_hedges_total", "denied") => &mut hedges.denied,
            ("shunt_hedges_total", "failed") => &mut hedges.failed,
            ("shunt_requests_total", outcome) => {
                flow.calls += count;
                match outcome {
                    "served" => &mut flow.served,
                    "demoted" => &mut flow.demoted,
                    "failed" => &mut flow.failed,
                    "cancelled" => &mut flow.cancelled,
                    "observed_over" => &mut flow.observed_over,
                    _ => return None,
                }
            }
            _ => return None,
        };
        *cell += count;
        Some(())
    }

    /// Those of a route.
    pub fn of(&self, route: &str) -> Flow<u64> {
        self.0.get(&escaped(route)).copied().unwrap_or_default()
    }
}

/// The last seconds.
#[derive(Default)]
pub struct Rates {
    seen: VecDeque<(Instant, Counts)>,
}

impl Rates {
    /// What stands in the counters now.
    pub fn saw(&mut self, now: Instant, counts: Counts) {
        self.seen.push_back((now, counts));
        // The oldest that is kept is at least so old, so that rates are told over the whole time.
        while self.seen.get(1).is_some_and(|(at, _)| now - *at >= OVER) {
            self.seen.pop_front();
        }
    }

    /// A route's counts, and its rates once there are any.
    pub fn of(&self, route: &str) -> (Flow<u64>, Option<Flow<f64>>) {
        let Some((now, last)) = self.seen.back() else {
            return (Flow::default(), None);
        };
        let total = last.of(route);
        let (then, first) = self.seen.front().expect("it has a last one");
        let seconds = (*now - *then).as_secs_f64();
        let rates = (seconds > 0.0).then(|| per_second(&total, &first.of(route), seconds));
        (total, rates)
    }
}

fn per_second(now: &Flow<u64>, then: &Flow<u64>, seconds: f64) -> Flow<f64> {
    // A route that a reload brought back may count from zero.
    let rate = |now: u64, then: u64| {
        let rate = now.saturating_sub(then) as f64 / seconds;
        (rate * 1e3).round() / 1e3
    };
    Flow {
        calls: rate(now.calls, then.calls),
        served: rate(now.served, then.served),
        demoted: rate(now.demoted, then.demoted),
        failed: rate(now.failed, then.failed),
        cancelled: rate(now.cancelled, then.cancelled),
        observed_over: rate(now.observed_over, then.observed_over),
        over_budget: rate(now.over_budget, then.over_budget),
        hedges: Hedges {
            won: rate(now.hedges.won, then.hedges.won),
            lost: rate(now.hedges.lost, then.hedges.lost),
            denied: rate(now.hedges.denied, then.hedges.denied),
            failed: rate(now.hedges.failed, then.hedges.failed),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::meter::{Meter, Outcome, RouteMeter};

    #[tokio::test(start_paused = true)]
    async fn every_outcome_of_a_route_is_counted_in_its_place_and_told_by_the_second() {
        let meter = Meter::new(1);
        let (named, other) = ("a \"b\"", RouteMeter::new(&meter, "other"));
        let route = Arc::new(RouteMeter::new(&meter, named));
        let mut rates = Rates::default();
        rates.saw(Instant::now(), Counts::read(&meter.render()));
        assert_eq!(rates.of(named), (Flow::default(), None));
        let outcomes = [
            (Outcome::Served, 200),
            (Outcome::Served, 201),
            (Outcome::Demoted, 202),
            (Outcome::Failed, 502),
            (Outcome::Cancelled, 499),
            (Outcome::ObservedOver, 200),
        ];
        for (outcome, status) in outcomes {
            route.count(status, outcome);
            other.count(status, Outcome::Served);
        }
        route.exceeded("demote");
        route.exceeded("observe");
        for hedges in [&route.hedges_won, &route.hedges_lost, &route.hedges_lost] {
            hedges.increment(1);
        }
        route.hedges_denied.increment(3);
        route.hedges_failed.increment(4);
        tokio::time::advance(Duration::from_secs(2)).await;
        rates.saw(Instant::now(), Counts::read(&meter.render()));
        let (total, per_second) = rates.of(named);
        let hedges = Hedges {
            won: 1,
            lost: 2,
            denied: 3,
            failed: 4,
        };
        let expected = Flow {
            calls: 6,
            served: 2,
            demoted: 1,
            failed: 1,
            cancelled: 1,
            observed_over: 1,
            over_budget: 2,
            hedges,
        };
        assert_eq!(total, expected);
        let told = per_second.expect("two moments are known");
        assert_eq!((told.calls, told.hedges.failed), (3.0, 2.0));
        assert_eq!(rates.of("nobody").0, Flow::default());
        for _ in 0..OVER.as_secs() {
            tokio::time::advance(Duration::from_secs(1)).await;
            rates.saw(Instant::now(), Counts::read(&meter.render()));
        }
        assert_eq!(rates.of(named).1, Some(Flow::default()));
        assert!(rates.seen.len() <= 6);
    }
}
