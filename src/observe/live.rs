//! What `GET /api/live` tells: the gateway at one moment, as the page and `shunt top` show it.
//!
//! Server-sent events, one a second: `event: snapshot` with a [`Snapshot`]; with `?route=NAME` also
//! `event: detail` with a [`Detail`]. `?once=true` answers one snapshot as plain JSON. Durations are
//! in seconds, moments in seconds since 1970, shares from 0 to 1. Readers must overlook fields that
//! they do not know. Pure data; `gather` fills it, `hub` hands it out.

mod counts;
mod detail;
mod gather;
mod hub;

use serde::{Deserialize, Serialize};

use crate::latency::Window;

pub use self::hub::Hub;
pub(super) use self::hub::{heatmap, live};

/// A gateway at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken.
    pub at: f64,
    /// The process.
    pub gateway: Gateway,
    /// Routes in the order in which they are tried, the providers' own ones last.
    pub routes: Vec<Route>,
    /// Jobs in the store; `None` while the store does not answer.
    pub jobs: Option<Jobs>,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    /// Host and process id, as job histories name it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it began to serve operators; another value means another process.
    pub started: f64,
    /// For how long.
    pub uptime: f64,
    /// It takes no new calls.
    pub draining: bool,
    /// The store takes writes; `None`: it was not asked yet.
    pub store_ready: Option<bool>,
    /// Attempts that run at providers, those of jobs too.
    pub in_flight: u64,
    /// Tasks that serve calls, callers' connections and jobs.
    pub tasks: u64,
    /// Who listens to this stream.
    pub listeners: u64,
    /// Most that may.
    pub listeners_limit: u64,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// A provider's own, under the provider's name.
    pub built_in: bool,
    /// Its deadlines.
    pub budget: Budget,
    /// What happens at them.
    pub over_budget: OverBudget,
    /// Attempts at its targets now.
    pub in_flight: u64,
    /// Calls that wait for a place at a target.
    pub queue: u64,
    /// Since the process began.
    pub total: Flow<u64>,
    /// A second, over the last seconds; `None` until two moments are known.
    pub per_second: Option<Flow<f64>>,
    /// Its second attempts.
    pub hedge: Hedge,
    /// Streamed calls to their first token, as their callers saw it.
    pub first_token: Windows<Figures>,
    /// Calls to their last byte.
    pub duration: Windows<Figures>,
    /// The gateway's own part of a call, in the last minute.
    pub overhead: Figures,
    /// Where its calls go.
    pub targets: Vec<Target>,
}

/// Deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Streams: until the first token.
    pub first_token: f64,
    /// Until the last byte.
    pub total: f64,
}

/// What happens at a deadline; the words of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverBudget {
    /// `demote`, `fail`, or `observe`: nothing is interrupted.
    pub action: String,
    /// For callers who did not ask for a job: `fail`, `see-other` or `wait`.
    pub unasked: String,
}

/// Counts, or rates, of what became of a route's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow<T> {
    /// All that follow up to `observed_over`.
    pub calls: T,
    /// Answered.
    pub served: T,
    /// Became jobs.
    pub demoted: T,
    /// Got an error.
    pub failed: T,
    /// Their callers left.
    pub cancelled: T,
    /// Answered past a budget that is only observed.
    pub observed_over: T,
    /// Passed a deadline, whatever was done.
    pub over_budget: T,
    /// Second attempts.
    pub hedges: Hedges<T>,
}

/// What came of second attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hedges<T> {
    /// They answered first.
    pub won: T,
    /// The first attempt did.
    pub lost: T,
    /// The route's share of extra calls was used up.
    pub denied: T,
    /// They failed by themselves.
    pub failed: T,
}

/// The rule of second attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hedge {
    /// As configured: `off`, `auto`, a percentile or a duration.
    pub after: String,
    /// Extra calls per call, at most.
    pub max_extra: f64,
    /// Delay for streams; `None`: none is sent.
    pub stream_delay: Option<f64>,
    /// Delay for other answers.
    pub answer_delay: Option<f64>,
}

/// The same of each rolling window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Windows<T> {
    /// The last minute.
    #[serde(rename = "1m")]
    pub minute: T,
    /// The last five minutes.
    #[serde(rename = "5m")]
    pub five_minutes: T,
    /// The last hour.
    #[serde(rename = "1h")]
    pub hour: T,
}

impl<T> Windows<T> {
    /// Made for each.
    pub fn each(of: impl Fn(Window) -> T) -> Self {
        Self {
            minute: of(Window::Minute),
            five_minutes: of(Window::FiveMinutes),
            hour: of(Window::Hour),
        }
    }

    /// That of one.
    pub fn of(&self, window: Window) -> &T {
        match window {
            Window::Minute => &self.minute,
            Window::FiveMinutes => &self.five_minutes,
            Window::Hour => &self.hour,
        }
    }
}

/// Percentiles; all zero where nothing was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Samples.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
    /// Share above the route's budget, where there is one for it, of the calls that are held to it.
    pub over: Option<f64>,
}

/// How a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Calls are sent to it.
    Healthy,
    /// One call may find out whether it is back.
    HalfOpen,
    /// It failed too often and is left alone.
    Ejected,
    /// It asked to be left alone.
    Resting,
}

/// A target of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its name, unique within the route.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Its weight against the others'; 0: only hedges and retries.
    pub weight: u32,
    /// How it stands.
    pub health: Health,
    /// How long it is left alone yet, as far as is known.
    pub closed_for: Option<f64>,
    /// Ejections since the process began.
    pub ejections: u32,
    /// Attempts that run there.
    pub in_flight: u64,
    /// Most that may, where there is a limit.
    pub limit: Option<u32>,
    /// Calls that wait for a place there.
    pub waiting: u64,
    /// Seconds to a first content, as the balancer averages them.
    pub average_first_token: Option<f64>,
    /// Share of the route's attempts that ended in the last minute; `None`: there were none.
    pub share: Option<f64>,
    /// Streamed attempts to their first token, in the last minute.
    pub first_token: Figures,
    /// Attempts to their last byte, in the last minute.
    pub duration: Figures,
    /// What is left of its provider's rate limits, where it tells.
    pub quota: Vec<Quota>,
    /// Why its provider would get no job now.
    pub held: Option<String>,
}

/// What is left of a rate limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// `requests` or `tokens`.
    pub kind: String,
    /// All of it.
    pub limit: u64,
    /// What is left, by the estimate.
    pub remaining: f64,
}

/// Jobs in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jobs {
    /// When the store told.
    pub at: f64,
    /// By route: those that have jobs.
    pub routes: Vec<RouteJobs>,
    /// Callbacks that were given up and can be replayed.
    pub dead_callbacks: u64,
}

/// Jobs of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteJobs {
    /// The route.
    pub route: String,
    /// Wait for a runner.
    pub queued: u64,
    /// A provider works on them.
    pub running: u64,
    /// Have an answer.
    pub succeeded: u64,
    /// Will get none.
    pub failed: u64,
    /// Were stopped.
    pub cancelled: u64,
    /// Grew too old.
    pub expired: u64,
    /// How long the job waits that could run for longest; `None`: none waits.
    pub oldest_queued: Option<f64>,
}

/// One route in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// The route.
    pub route: String,
    /// Percentile curves.
    pub curves: Phases<Windows<Curve>>,
    /// The last hour, in the first event and in every tenth; else `None`.
    pub heat: Option<Phases<Heatmap>>,
}

/// The same of a route's two phases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phases<T> {
    /// Streamed calls to their first token.
    pub first_token: T,
    /// Calls to their last byte.
    pub total: T,
}

/// Shares of the calls, and the latency that each kept. Evenly spaced in log(1/(1-share)), up to the
/// largest sample at 1; empty where nothing was counted.
pub type Curve = Vec<(f64, f64)>;

/// Latencies of the last hour, by minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heatmap {
    /// A column's length.
    pub column: f64,
    /// When the last column began, the one that is being filled.
    pub began: f64,
    /// The lowest latency of each row, ascending.
    pub rows: Vec<f64>,
    /// Oldest first, the last one still being filled; at most 61.
    pub columns: Vec<HeatColumn>,
}

/// One minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeatColumn {
    /// The row of the first count.
    pub first: usize,
    /// Calls by row.
    pub counts: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_back_and_unknown_fields_are_overlooked() {
        let text = r#"{"at":1.5,"gateway":{"name":"host/1","version":"0.1.0","started":1.0,
            "uptime":0.5,"draining":false,"store_ready":null,"in_flight":2,"tasks":3,"listeners":1,
            "listeners_limit":16,"later":[]},"routes":[],"jobs":null,"later":{}}"#;
        let snapshot: Snapshot = serde_json::from_str(text).unwrap();
        assert_eq!(
            (snapshot.gateway.in_flight, snapshot.jobs.is_none()),
            (2, true)
        );
        let again = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&again).unwrap(), snapshot);
    }

    #[test]
    fn windows_and_health_have_the_names_that_the_other_pages_use() {
        let windows = serde_json::to_value(Windows::<Figures>::default()).unwrap();
        let names: Vec<_> = windows.as_object().unwrap().keys().cloned().collect();
        let mut all = crate::latency::Window::ALL.map(crate::latency::Window::as_str);
        all.sort_unstable();
        assert_eq!(names, all);
        assert_eq!(serde_json::to_value(Health::HalfOpen).unwrap(), "half_open");
    }
}
