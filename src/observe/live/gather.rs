//! Fills a snapshot from what the gateway acts on.

use tokio::time::Instant;

use super::counts::Rates;
use super::{
    Budget, Figures, Gateway, Health, Hedge, Jobs, OverBudget, Quota, Route, RouteJobs, Snapshot,
    Target, Windows,
};
use crate::cold::job::{Status, UnixMillis};
use crate::cold::store::SharedStore;
use crate::config::{Action, Period, Unasked};
use crate::hot;
use crate::latency::{self, Window};
use crate::meter::{RouteMeter, Tracked};
use crate::observe::store::ask;
use crate::upstream::health::Admission;
use crate::upstream::target;

/// Everything but the process and the jobs.
pub fn routes(routes: &[std::sync::Arc<hot::Route>], rates: &Rates) -> Vec<Route> {
    let now = Instant::now();
    routes.iter().map(|one| route(one, rates, now)).collect()
}

/// A moment, in seconds since 1970.
pub fn seconds(at: UnixMillis) -> f64 {
    at.0 as f64 / 1e3
}

fn route(route: &hot::Route, rates: &Rates, now: Instant) -> Route {
    let (total, per_second) = rates.of(&route.name);
    let (first_token, whole) = (route.budget.first_token, route.budget.total);
    let targets = targets(route.targets.all(), now);
    let delay = |streamed| {
        let rule = route.line(streamed).rule();
        rule.map(|rule| rule.delay.as_secs_f64())
    };
    Route {
        name: route.name.to_string(),
        built_in: route.is_built_in(),
        budget: Budget {
            first_token: first_token.get().as_secs_f64(),
            total: whole.get().as_secs_f64(),
        },
        over_budget: over_budget(route.over_budget.action, route.over_budget.unasked),
        in_flight: targets.iter().map(|target| target.in_flight).sum(),
        queue: targets.iter().map(|target| target.waiting).sum(),
        total,
        per_second,
        hedge: Hedge {
            after: route.hedge.after.to_string(),
            max_extra: route.hedge.max_extra,
            stream_delay: delay(true),
            answer_delay: delay(false),
        },
        first_token: windows(&route.meter, true, first_token),
        duration: windows(&route.meter, false, whole),
        overhead: minute(&route.meter.overhead),
        targets,
    }
}

fn over_budget(action: Action, unasked: Unasked) -> OverBudget {
    let action = match action {
        Action::Demote => "demote",
        Action::Fail => "fail",
        Action::Observe => "observe",
    };
    let unasked = match unasked {
        Unasked::Fail => "fail",
        Unasked::SeeOther => "see-other",
        Unasked::Wait => "wait",
    };
    OverBudget {
        action: action.into(),
        unasked: unasked.into(),
    }
}

fn figures(snapshot: &latency::Snapshot, over: Option<f64>) -> Figures {
    let all = snapshot.summary();
    Figures {
        count: all.count,
        p50: all.p50.as_secs_f64(),
        p90: all.p90.as_secs_f64(),
        p95: all.p95.as_secs_f64(),
        p99: all.p99.as_secs_f64(),
        p999: all.p999.as_secs_f64(),
        max: all.max.as_secs_f64(),
        over,
    }
}

fn minute(tracked: &Tracked) -> Figures {
    figures(tracked.views().window(Window::Minute), None)
}

fn windows(meter: &RouteMeter, first_token: bool, budget: Period) -> Windows<Figures> {
    let tracked = if first_token {
        &meter.first_token
    } else {
        &meter.total
    };
    let views = tracked.views();
    Windows::each(|window| {
        let over = meter.over(first_token, window, budget.get()).over;
        figures(views.window(window), Some(over))
    })
}

fn targets(all: &[std::sync::Arc<target::Target>], now: Instant) -> Vec<Target> {
    let mut told: Vec<Target> = all.iter().map(|one| target(one, now)).collect();
    let ended: u64 = told.iter().map(|one| one.duration.count).sum();
    if ended > 0 {
        for one in &mut told {
            one.share = Some(one.duration.count as f64 / ended as f64);
        }
    }
    told
}

fn target(target: &target::Target, now: Instant) -> Target {
    let (health, permits) = (&target.health, target.permits.as_ref());
    let stands = match health.admission(now) {
        Admission::Open => Health::Healthy,
        Admission::HalfOpen => Health::HalfOpen,
        Admission::Closed if health.is_ejected() => Health::Ejected,
        Admission::Closed => Health::Resting,
    };
    let quota = target.provider.quota.left(now).map(|left| Quota {
        kind: left.kind.to_owned(),
        limit: left.limit,
        remaining: left.remaining.floor(),
    });
    let held = target.provider.quota.room(now).err();
    Target {
        name: target.label.clone(),
        provider: target.provider.name.to_string(),
        weight: target.weight(),
        health: stands,
        closed_for: health.closed_for(now).map(|time| time.as_secs_f64()),
        ejections: health.ejections(),
        in_flight: target.meter.running() as u64,
        limit: permits.map(|permits| permits.limit()),
        waiting: permits.map_or(0, |permits| permits.waiting() as u64),
        average_first_token: target.load.seconds(),
        share: None,
        first_token: minute(&target.meter.first_token),
        duration: minute(&target.meter.duration),
        quota: quota.collect(),
        held: held.map(|held| held.why.as_str().to_owned()),
    }
}

/// What the store told.
#[derive(Clone, Default)]
pub struct Stored {
    /// Whether it takes writes; `None`: it was not asked yet.
    pub ready: Option<bool>,
    /// Jobs; `None`: it did not say.
    pub jobs: Option<Jobs>,
}

/// Asks the store.
pub async fn stored(store: &SharedStore) -> Stored {
    let told = ask(store).await;
    let jobs = || {
        Some(Jobs {
            at: seconds(told.at),
            routes: by_route(told.counts?, &told.oldest?, told.at),
            dead_callbacks: told.dead?,
        })
    };
    Stored {
        ready: Some(told.ready),
        jobs: jobs(),
    }
}

fn by_route(
    counts: Vec<(String, Status, u64)>,
    oldest: &[(String, UnixMillis)],
    now: UnixMillis,
) -> Vec<RouteJobs> {
    let mut all: Vec<RouteJobs> = Vec::new();
    for (route, status, count) in counts {
        let at = all.iter().position(|one| one.route == route);
        let at = at.unwrap_or_else(|| {
            let since = oldest.iter().find(|(name, _)| *name == route);
            all.push(RouteJobs {
                route,
                oldest_queued: since.map(|(_, since)| since.until(now).as_secs_f64()),
                ..RouteJobs::default()
            });
            all.len() - 1
        });
        let one = &mut all[at];
        let cell = match status {
            Status::Queued => &mut one.queued,
            Status::Running => &mut one.running,
            Status::Succeeded => &mut one.succeeded,
            Status::Failed => &mut one.failed,
            Status::Cancelled => &mut one.cancelled,
            Status::Expired => &mut one.expired,
        };
        *cell = count;
    }
    all.sort_by(|one, other| one.route.cmp(&other.route));
    all
}

/// A snapshot of these parts.
pub fn snapshot(gateway: Gateway, routes: Vec<Route>, stored: &Stored) -> Snapshot {
    Snapshot {
        at: seconds(UnixMillis::now()),
        gateway: Gateway {
            store_ready: stored.ready,
            in_flight: routes.iter().map(|route| route.in_flight).sum(),
            ..gateway
        },
        routes,
        jobs: stored.jobs.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_stand_by_route_and_status_with_the_age_of_the_one_that_waits_longest() {
        let counts = vec![
            ("b".to_owned(), Status::Queued, 3),
            ("a".to_owned(), Status::Failed, 1),
            ("b".to_owned(), Status::Expired, 2),
        ];
        let oldest = [("b".to_owned(), UnixMillis(1_000))];
        let all = by_route(counts, &oldest, UnixMillis(3_500));
        assert_eq!(all.len(), 2);
        let one = RouteJobs {
            route: "b".into(),
            queued: 3,
            expired: 2,
            oldest_queued: Some(2.5),
            ..RouteJobs::default()
        };
        assert_eq!(all[1], one);
        assert_eq!((all[0].failed, all[0].oldest_queued), (1, None));
    }
}
