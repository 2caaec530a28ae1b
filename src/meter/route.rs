//! The handles of one route, and of one target of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use metrics::{Counter, Gauge};

use super::over::LetGo;
use super::tracked::{Metric, Tracked};
use super::{Healthy, Meter, Sampled};

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered within its budget, or with no budget to keep.
    Served,
    /// Became a job.
    Demoted,
    /// Got an error.
    Failed,
    /// Its caller left.
    Cancelled,
    /// Answered past its budget, which is only observed.
    ObservedOver,
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Served,
        Self::Demoted,
        Self::Failed,
        Self::Cancelled,
        Self::ObservedOver,
    ];

    /// Its label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Demoted => "demoted",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::ObservedOver => "observed_over",
        }
    }
}

/// Statuses with a label of their own; others share their class.
const STATUSES: [u16; 23] = [
    200, 201, 202, 204, 206, 301, 303, 304, 400, 401, 403, 404, 408, 409, 413, 422, 429, 499, 500,
    502, 503, 504, 529,
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const SLOTS: usize = STATUSES.len() + CLASSES.len();

fn slot(status: u16) -> usize {
    let known = STATUSES.iter().position(|known| *known == status);
    known.unwrap_or_else(|| STATUSES.len() + usize::from(status / 100).clamp(1, CLASSES.len()) - 1)
}

fn label(slot: usize) -> String {
    match STATUSES.get(slot) {
        Some(status) => status.to_string(),
        None => CLASSES[slot - STATUSES.len()].to_owned(),
    }
}

/// The target of calls that none was asked for.
pub(super) const NO_TARGET: &str = "none";

/// Counters of calls by status and outcome, registered when first needed.
struct Requests {
    meter: Arc<Meter>,
    route: Arc<str>,
    target: Arc<str>,
    cells: [[OnceLock<Counter>; Outcome::ALL.len()]; SLOTS],
}

impl Requests {
    fn new(meter: &Arc<Meter>, route: &str, target: &str) -> Self {
        Self {
            meter: meter.clone(),
            route: route.into(),
            target: target.into(),
            cells: Default::default(),
        }
    }

    fn count(&self, status: u16, outcome: Outcome) {
        let slot = slot(status);
        self.cells[slot][outcome as usize]
            .get_or_init(|| {
                let labels = [
                    ("route", &*self.route),
                    ("target", &*self.target),
                    ("status", &label(slot)),
                    ("outcome", outcome.as_str()),
                ];
                self.meter.counter("shunt_requests_total", &labels)
            })
            .increment(1);
    }
}

/// Which side of a call tokens belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read by the model.
    Prompt,
    /// Written by it.
    Completion,
}

/// What tokens were used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// An answer to a waiting caller.
    Served,
    /// An attempt that lost against another.
    HedgeLost,
    /// A job.
    Cold,
}

/// The handles of one target of a route.
pub struct TargetMeter {
    /// Streamed attempts: first token.
    pub first_token: Arc<Tracked>,
    /// Attempts: last byte.
    pub duration: Arc<Tracked>,
    /// Streams: between tokens.
    pub gap: Arc<Tracked>,
    inflight: Gauge,
    /// Whether calls are sent to it.
    pub healthy: Healthy,
    running: AtomicUsize,
    requests: Requests,
    tokens: [[Counter; 3]; 2],
    queue: Gauge,
    /// Registered where there is one.
    limit: OnceLock<Gauge>,
}

impl TargetMeter {
    /// The handles of `target` in `route`.
    pub fn new(meter: &Arc<Meter>, route: &str, target: &str) -> Self {
        let tokens = |kind, used| {
            let labels = [
                ("route", route),
                ("target", target),
                ("kind", kind),
                ("use", used),
            ];
            meter.counter("shunt_tokens_total", &labels)
        };
        let by_use = |kind| ["served", "hedge_lost", "cold"].map(|used| tokens(kind, used));
        Self {
            first_token: meter.track(Metric::FirstToken, route, Some(target)),
            duration: meter.track(Metric::ProviderDuration, route, Some(target)),
            gap: meter.track(Metric::TokenGap, route, Some(target)),
            healthy: meter.healthy(target),
            inflight: meter.gauge("shunt_attempts_inflight", &[("target", target)]),
            running: AtomicUsize::new(0),
            requests: Requests::new(meter, route, target),
            tokens: [by_use("prompt"), by_use("completion")],
            queue: {
                let labels = [("route", route), ("target", target)];
                let queue = meter.gauge("shunt_queue_length", &labels);
                // Before a reload it may have had places.
                queue.set(0.0);
                queue
            },
            limit: OnceLock::new(),
        }
    }

    /// It gets so many calls at once, and so many more wait; meant for once a second.
    pub fn places(&self, limit: u32, waiting: usize) {
        let told = self.limit.get_or_init(|| {
            let labels = [
                ("route", &*self.requests.route),
                ("target", &*self.requests.target),
            ];
            let meter = &self.requests.meter;
            meter.gauge("shunt_concurrency_limit", &labels)
        });
        told.set(f64::from(limit));
        self.queue.set(waiting as f64);
    }

    /// An attempt began.
    pub fn began(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.inflight.increment(1.0);
    }

    /// An attempt ended.
    pub fn ended(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.inflight.decrement(1.0);
    }

    /// Attempts running now.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// A call that this target answered, or did not.
    pub fn count(&self, status: u16, outcome: Outcome) {
        self.requests.count(status, outcome);
    }

    /// Tokens were used.
    pub fn tokens(&self, kind: Kind, used: Use, count: u64) {
        if count > 0 {
            self.tokens[kind as usize][used as usize].increment(count);
        }
    }
}

/// First and second attempts of one kind of call.
pub struct Lines {
    /// First attempts.
    pub first: Arc<Sampled>,
    /// Second attempts.
    pub second: Arc<Sampled>,
}

impl Lines {
    fn new(meter: &Arc<Meter>, route: &str, streamed: bool) -> Self {
        let sampled = |second| {
            let track = |given_up| {
                let metric = Metric::Hedge {
                    streamed,
                    second,
                    given_up,
                };
                meter.track(metric, route, None)
            };
            Arc::new(Sampled {
                ended: track(false),
                given_up: track(true),
            })
        };
        Self {
            first: sampled(false),
            second: sampled(true),
        }
    }
}

/// The handles of one route.
pub struct RouteMeter {
    /// Calls: last byte, or the gateway's own answer.
    pub total: Arc<Tracked>,
    /// Those of them that are held to the budget for whole answers: no streams, unless they are cut.
    pub held: Arc<Tracked>,
    /// Streamed calls: first token.
    pub first_token: Arc<Tracked>,
    pub(super) let_go: LetGo,
    pub(super) streams_let_go: LetGo,
    /// The gateway's own time.
    pub overhead: Arc<Tracked>,
    /// What hedging learns of streamed calls.
    pub streams: Lines,
    /// What hedging learns of other calls.
    pub answers: Lines,
    /// Second attempts that answered first.
    pub hedges_won: Counter,
    /// Second attempts that were cancelled for the first one's answer.
    pub hedges_lost: Counter,
    /// Second attempts that the bucket did not allow.
    pub hedges_denied: Counter,
    /// Second attempts that failed by themselves.
    pub hedges_failed: Counter,
    /// Calls that found no place at any target and became jobs.
    pub shed_demoted: Counter,
    /// Calls that found no place at any target and were refused.
    pub shed_refused: Counter,
    /// The delay in use.
    pub hedge_delay: Gauge,
    /// Calls that no target was asked for.
    requests: Requests,
    meter: Arc<Meter>,
    route: Arc<str>,
    exceeded: [Counter; 5],
    joined: [Counter; 3],
}

/// By what a call was known as another's twin.
const JOINS: [&str; 3] = ["key", "retry", "store"];

/// What was done at a deadline.
const ACTIONS: [&str; 5] = ["demote", "fail", "see-other", "wait", "observe"];

impl RouteMeter {
    /// The handles of `route`.
    pub fn new(meter: &Arc<Meter>, route: &str) -> Self {
        let hedges = |result| {
            meter.counter(
                "shunt_hedges_total",
                &[("route", route), ("result", result)],
            )
        };
        let shed =
            |result| meter.counter("shunt_shed_total", &[("route", route), ("result", result)]);
        Self {
            total: meter.track(Metric::RequestDuration, route, None),
            held: meter.track(Metric::HeldToTotal, route, None),
            first_token: meter.track(Metric::RouteFirstToken, route, None),
            let_go: LetGo::new(meter, route, false),
            streams_let_go: LetGo::new(meter, route, true),
            overhead: meter.track(Metric::Overhead, route, None),
            streams: Lines::new(meter, route, true),
            answers: Lines::new(meter, route, false),
            hedges_won: hedges("won"),
            hedges_lost: hedges("lost"),
            hedges_denied: hedges("denied"),
            hedges_failed: hedges("failed"),
            shed_demoted: shed("demoted"),
            shed_refused: shed("refused"),
            hedge_delay: meter.gauge("shunt_hedge_delay_seconds", &[("route", route)]),
            requests: Requests::new(meter, route, NO_TARGET),
            meter: meter.clone(),
            route: route.into(),
            exceeded: ACTIONS.map(|action| {
                let labels = [("route", route), ("action", action)];
                meter.counter("shunt_budget_exceeded_total", &labels)
            }),
            joined: JOINS.map(|by| {
                let labels = [("route", route), ("by", by)];
                meter.counter("shunt_joined_total", &labels)
            }),
        }
    }

    /// A call that was answered before any target was asked.
    pub fn count(&self, status: u16, outcome: Outcome) {
        self.requests.count(status, outcome);
    }

    /// A call got another's answer; `by` is `key`, `retry` or `store`.
    pub fn joined(&self, by: &'static str) {
        if let Some(at) = JOINS.iter().position(|known| *known == by) {
            self.joined[at].increment(1);
        }
    }

    /// A call passed its deadline; `action` is `demote`, `fail`, `see-other`, `wait` or `observe`.
    pub fn exceeded(&self, action: &'static str) {
        if let Some(at) = ACTIONS.iter().position(|known| *known == action) {
            self.exceeded[at].increment(1);
        }
    }

    /// An attempt after a failure; `reason` comes from a fixed list.
    pub fn retried(&self, reason: &'static str) {
        let labels = [("route", &*self.route), ("reason", reason)];
        // Retries are rare: the look-up is paid only then.
        self.meter
            .counter("shunt_retries_total", &labels)
            .increment(1);
    }
}
