//! The figures of a route as JSON.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::HedgeAfter;
use crate::hot::Route;
use crate::latency::{Snapshot, Window, hedge_delay};
use crate::meter::Turned;

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn figures(snapshot: &Snapshot) -> Value {
    let all = snapshot.summary();
    json!({
        "count": all.count, "p50": seconds(all.p50), "p90": seconds(all.p90),
        "p95": seconds(all.p95), "p99": seconds(all.p99), "p999": seconds(all.p999),
        "max": seconds(all.max),
    })
}

fn phase(tracked: &crate::meter::Tracked) -> Value {
    let views = tracked.views();
    let by_window =
        Window::ALL.map(|window| (window.as_str().to_owned(), figures(views.window(window))));
    Value::Object(by_window.into_iter().collect())
}

/// A route's figures; durations in seconds.
pub fn route(route: &Route) -> Value {
    let now = Instant::now();
    let targets: Vec<Value> = route
        .targets
        .all()
        .iter()
        .map(|target| {
            json!({
                "name": target.label,
                "inflight": target.meter.running(),
                "quota": super::quota::figures(&target.provider),
                "healthy": target.is_open(now),
                "ejections": target.health.ejections(),
                "concurrency": target.permits.as_ref().map(|permits| json!({
                    "limit": permits.limit(),
                    "taken": permits.taken(),
                    "waiting": permits.waiting(),
                })),
                "first_token": phase(&target.meter.first_token),
                "duration": phase(&target.meter.duration),
                "token_gap": phase(&target.meter.gap),
            })
        })
        .collect();
    json!({
        "name": &*route.name,
        "budget": {
            "first_token": seconds(route.budget.first_token.get()),
            "total": seconds(route.budget.total.get()),
        },
        "hedge": {
            "after": route.hedge.after.to_string(),
            "stream": hedging(route, true, &route.meter.first_token),
            "answer": hedging(route, false, &route.meter.held),
        },
        "predict": predictions(route),
        "phases": {
            "first_token": phase(&route.meter.first_token),
            "total": phase(&route.meter.total),
            "overhead": phase(&route.meter.overhead),
        },
        "targets": targets,
    })
}

/// How predictions turned out since the start; `null` where they are switched off.
fn predictions(route: &Route) -> Value {
    let Some(all) = route.predictor.predictions() else {
        return Value::Null;
    };
    json!({
        "right": all.turned(Turned::Right),
        "wrong": all.turned(Turned::Wrong),
        "missed": all.turned(Turned::Missed),
        "met": all.turned(Turned::Met),
        "precision": all.precision(),
        "recall": all.recall(),
    })
}

/// The rule in force, what `auto` promises of it, and the p99 of the last minute.
fn hedging(route: &Route, streamed: bool, callers: &crate::meter::Tracked) -> Value {
    let line = route.line(streamed);
    let rule = line.rule();
    let policy = line.policy();
    json!({
        "delay": rule.map(|rule| seconds(rule.delay)),
        "share": rule.map(|rule| rule.share),
        "predicted_p99": policy.as_ref().map(|policy| seconds(policy.predicted)),
        "p99_without": policy.and_then(|policy| policy.without).map(seconds),
        "achieved_p99": seconds(callers.views().window(Window::Minute).quantile(0.99)),
    })
}

/// What a budget would have done to the calls of the last hour, and, by what is known of their
/// classes, what share of the calls that may become jobs would be told so at once.
pub fn what_if(route: &Route, first_token: Option<Duration>, total: Option<Duration>) -> Value {
    let share = |limit: Option<Duration>, streamed| {
        limit.map(|limit| {
            let share = route.meter.over(streamed, Window::Hour, limit);
            json!({
                "budget": seconds(limit), "count": share.count,
                "over": share.over, "unknown": share.unknown,
                "at_once": route.predictor.told(streamed, limit),
            })
        })
    };
    // The delay whose hedges, within the cap, spend what the route may spend.
    let cap = 100.0 * (1.0 - route.hedge.max_extra);
    let delay = |streamed| {
        let first = route.line(streamed).first.survival(Window::Hour);
        hedge_delay(&first, cap, 1).map(seconds)
    };
    json!({
        "route": &*route.name,
        "first_token": share(first_token, true),
        "total": share(total, false),
        "hedge": {
            "armed": route.hedge.after != HedgeAfter::Off,
            "delay_stream": delay(true),
            "delay_answer": delay(false),
        },
    })
}
