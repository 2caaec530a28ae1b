//! A histogram that is kept since the start, with its rolling windows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::latency::{Columns, Heat, Series, Snapshot, Views, Windows};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// A call, from its head to its last byte, as the caller saw it.
    RequestDuration,
    /// A streamed call's first token, as the caller saw it.
    RouteFirstToken,
    /// The same of calls that are held to the budget for whole answers.
    HeldToTotal,
    /// The gateway's own part of a call.
    Overhead,
    /// A streamed attempt's first token.
    FirstToken,
    /// Between two tokens of a stream.
    TokenGap,
    /// An attempt, from its start to its last byte.
    ProviderDuration,
    /// Attempts to their first token, or to their answer: what hedging learns from.
    Hedge {
        /// Streams, or other answers.
        streamed: bool,
        /// Second attempts, or first ones.
        second: bool,
        /// Those that were given up before.
        given_up: bool,
    },
    /// Calls that were let go at their deadlines, of streams that had no token yet.
    LetGo {
        /// For the first token, or the whole call.
        first_token: bool,
        /// By the budget that they had, or by their age.
        budget: bool,
    },
    /// A job, from its call's arrival to its final state.
    JobDuration,
    /// A job's wait for its next attempt.
    JobQueue,
    /// From a job's final state to the delivery of its callback.
    CallbackLag,
}

/// A histogram with its labels and its windows.
pub struct Tracked {
    /// What is timed.
    pub metric: Metric,
    /// The route; empty where the metric has none.
    pub route: Arc<str>,
    /// The target, for metrics that have one.
    pub target: Option<Arc<str>>,
    series: Series,
    /// Locked by the tick only.
    windows: Mutex<Windows>,
    published: Arc<ArcSwap<Views>>,
    /// The last hour by minutes, for what callers see of a route; locked by the tick and by those who
    /// look.
    heat: Option<Mutex<Heat>>,
}

impl Tracked {
    pub(super) fn new(metric: Metric, route: &str, target: Option<&str>, shards: usize) -> Self {
        let windows = Windows::new(Duration::ZERO);
        Self {
            metric,
            route: route.into(),
            target: target.map(Into::into),
            series: Series::new(shards),
            published: windows.published(),
            windows: Mutex::new(windows),
            heat: matches!(metric, Metric::RequestDuration | Metric::RouteFirstToken)
                .then(Mutex::default),
        }
    }

    pub(super) fn is(&self, metric: Metric, route: &str, target: Option<&str>) -> bool {
        self.metric == metric && &*self.route == route && self.target.as_deref() == target
    }

    pub(super) fn tick(&self, now: Duration) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = windows.tick(&self.series, now);
        if let Some(heat) = &self.heat {
            let mut heat = heat.lock().unwrap_or_else(PoisonError::into_inner);
            heat.tick(now, &counted);
        }
    }

    /// The last hour by minutes; `None` where that is not kept.
    pub fn heat(&self) -> Option<Columns> {
        let counted = self.cumulative();
        let heat = self.heat.as_ref()?.lock();
        Some(
            heat.unwrap_or_else(PoisonError::into_inner)
                .columns(&counted),
        )
    }

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        self.series.record(duration);
    }

    /// Counts a duration `times` times.
    pub fn record_n(&self, duration: Duration, times: u64) {
        self.series.record_n(duration, times);
    }

    /// Everything since the start.
    pub fn cumulative(&self) -> Snapshot {
        self.series.cumulative()
    }

    /// The windows as of the last tick.
    pub fn views(&self) -> Arc<Views> {
        self.published.load_full()
    }
}
