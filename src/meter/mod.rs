//! The handles that the other rooms count and time with, made when a configuration loads.
//!
//! Promises: counting is one atomic addition on a handle that was resolved before; the label sets
//! are bounded by the configuration. Decides nothing, renders nothing (`observe` does), and no
//! caller's text becomes a label.

mod healthy;
mod live;
mod over;
mod predict;
mod refused;
mod route;
mod sampled;
mod tracked;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::config;

pub use healthy::Healthy;
pub use live::{Live, escaped, label};
pub use over::Share;
pub use predict::{Predictions, Said, Turned, Witness};
pub use refused::Refused;
pub use route::{Kind, Lines, Outcome, RouteMeter, TargetMeter, Use};
pub use sampled::Sampled;
pub use tracked::{Metric, Tracked};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// Every metric of one process.
pub struct Meter {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Touched when a configuration loads, at a tick and at a scrape; never by a call.
    tracked: Mutex<Vec<Arc<Tracked>>>,
    /// The same.
    predictions: Mutex<Vec<Arc<Predictions>>>,
    /// The same.
    healthy: Mutex<Vec<Arc<healthy::Shared>>>,
    /// Since the first reload; touched by reloads and scrapes.
    live: Mutex<Option<Live>>,
    shards: usize,
}

impl Meter {
    /// A meter for so many recording threads.
    pub fn new(shards: usize) -> Arc<Self> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let meter = Self {
            handle: recorder.handle(),
            recorder,
            tracked: Mutex::default(),
            predictions: Mutex::default(),
            healthy: Mutex::default(),
            live: Mutex::default(),
            shards,
        };
        for (name, help) in HELP {
            let (name, help) = (KeyName::from_const_str(name), (*help).into());
            if name.as_str().ends_with("_total") {
                meter.recorder.describe_counter(name, None, help);
            } else {
                meter.recorder.describe_gauge(name, None, help);
            }
        }
        Arc::new(meter)
    }

    /// How many threads record.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// A counter; the same name and labels give the same counter.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder
            .register_counter(&key(name, labels), &METADATA)
    }

    /// A gauge; the same name and labels give the same gauge.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    /// A histogram with its windows; the same key gives the same histogram, so that a reload
    /// keeps what was measured.
    pub fn track(&self, metric: Metric, route: &str, target: Option<&str>) -> Arc<Tracked> {
        let mut all = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.iter().find(|one| one.is(metric, route, target)) {
            return found.clone();
        }
        let new = Arc::new(Tracked::new(metric, route, target, self.shards));
        all.push(new.clone());
        new
    }

    /// Whether a route sends calls to a target.
    pub fn healthy(&self, target: &str) -> Healthy {
        let mut all = self.healthy.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().find(|one| &*one.target == target).cloned();
        let shared = known.unwrap_or_else(|| {
            let gauge = self.gauge("shunt_target_healthy", &[("target", target)]);
            let new = Arc::new(healthy::Shared::new(target, gauge));
            all.push(new.clone());
            new
        });
        Healthy::new(shared)
    }

    /// What a route learns of its calls; the same while its classes are the same and somebody learns, so
    /// that a reload keeps it.
    pub fn predictions(&self, route: &str, settings: &config::Predict) -> Arc<Predictions> {
        let mut all = self
            .predictions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = |one: &&Arc<Predictions>| &*one.route == route && one.is_for(settings);
        if let Some(found) = all.iter().find(known) {
            return found.clone();
        }
        // Others of the route stay until nobody learns there: this configuration may be refused yet.
        let new = Arc::new(Predictions::new(self, route, settings));
        all.push(new.clone());
        new
    }

    /// Every histogram.
    pub fn tracked(&self) -> Vec<Arc<Tracked>> {
        let all = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// Moves every window on; meant for once a second. `now` counts from any fixed moment.
    pub fn tick(&self, now: Duration) {
        for tracked in self.tracked() {
            tracked.tick(now);
        }
        let mut predictions = self
            .predictions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        predictions.retain(|one| Arc::strong_count(one) > 1);
        for one in predictions.iter() {
            one.classes.tick(now);
        }
    }

    /// Tells, and keeps histograms, only of these routes and targets from here on.
    pub fn keep(&self, live: Live) {
        let mut tracked = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        tracked.retain(|one| live.tells(&one.route, one.target.as_deref()));
        let predictions = self.predictions.lock();
        let mut predictions = predictions.unwrap_or_else(PoisonError::into_inner);
        predictions.retain(|one| live.tells(&one.route, None));
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live);
    }

    /// Counters and gauges in Prometheus's text format.
    pub fn render(&self) -> String {
        let text = self.handle.render();
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        match &*live {
            Some(live) => live.only(&text),
            None => text,
        }
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels
        .iter()
        .map(|(name, value)| Label::new(*name, (*value).to_owned()))
        .collect();
    Key::from_parts(name, labels)
}

/// Counters and gauges, and what they mean.
const HELP: &[(&str, &str)] = &[
    ("shunt_requests_total", "Calls, by what became of them."),
    ("shunt_latency_seconds", "Quantiles of the rolling windows."),
    ("shunt_budget_seconds", "Configured budget."),
    (
        "shunt_budget_exceeded_total",
        "Calls past their deadline, by what was done.",
    ),
    (
        "shunt_joined_total",
        "Calls that got another call's answer, by what they were known by.",
    ),
    (
        "shunt_hedges_total",
        "Second attempts, by what came of them.",
    ),
    (
        "shunt_hedge_delay_seconds",
        "Delay after which a second attempt starts; NaN while there is none.",
    ),
    ("shunt_attempts_inflight", "Attempts running at a target."),
    (
        "shunt_target_average_first_token_seconds",
        "First content of the target's answers on average of some ten seconds, as balancing weighs it.",
    ),
    (
        "shunt_target_healthy",
        "1 while calls are sent to the target.",
    ),
    (
        "shunt_concurrency_limit",
        "Calls that a target may get at once.",
    ),
    (
        "shunt_queue_length",
        "Calls that wait for a place at a target.",
    ),
    (
        "shunt_shed_total",
        "Calls that found no place at any target in time, by what was done.",
    ),
    (
        "shunt_predictions_total",
        "Calls that may become jobs: whether they were predicted to miss their budget, and did.",
    ),
    (
        "shunt_retries_total",
        "Attempts after a failure, by the failure.",
    ),
    (
        "shunt_auth_refusals_total",
        "Calls refused for their key, by the reason.",
    ),
    ("shunt_jobs", "Jobs in the store."),
    (
        "shunt_job_oldest_queued_seconds",
        "How long the job waits that could run for longest; 0 while none waits.",
    ),
    ("shunt_jobs_ended_total", "Jobs that ended, by how."),
    (
        "shunt_job_attempts_total",
        "Calls to providers made for jobs, by what came of them.",
    ),
    (
        "shunt_leases_lost_total",
        "Times that the store was silent for longer than this gateway's lease.",
    ),
    (
        "shunt_jobs_rescued_total",
        "Jobs of gateways that are gone, queued again by this one.",
    ),
    (
        "shunt_callbacks_total",
        "Callback deliveries, by what came of them.",
    ),
    (
        "shunt_callbacks_dead",
        "Callbacks in the store that were given up and can be replayed.",
    ),
    (
        "shunt_tokens_total",
        "Tokens told or estimated by providers, by what they were used for.",
    ),
    (
        "shunt_quota_remaining_ratio",
        "What is left of a provider's rate limit, as a share of it; only where it tells.",
    ),
    (
        "shunt_quota_job_rate",
        "Jobs a second that a provider's 429s taught; NaN while there is no limit.",
    ),
    (
        "shunt_jobs_held_total",
        "Times that due jobs began to wait for a provider's quota, by the reason.",
    ),
    (
        "shunt_config_reloads_total",
        "Reloads of the configuration.",
    ),
    (
        "shunt_tls_reloads_total",
        "Certificates of listeners that were read again because they changed, by what came of it.",
    ),
    (
        "shunt_tls_certificate_expiry_timestamp_seconds",
        "When a listener's certificate expires, in seconds since 1970.",
    ),
    (
        "shunt_tls_handshakes_failed_total",
        "Connections to a listener whose TLS handshake failed or took too long.",
    ),
    (
        "shunt_refused_total",
        "Connections and calls that were turned away, by the bound that they broke.",
    ),
    (
        "shunt_access_log_dropped_total",
        "Lines of the access log that were left out, by the reason.",
    ),
    (
        "shunt_spans_exported_total",
        "Spans that the receiver of traces took.",
    ),
    (
        "shunt_spans_dropped_total",
        "Spans that were left out, by the reason.",
    ),
    ("shunt_store_ready", "1 while the job store takes writes."),
    ("shunt_build_info", "Always 1; the version is a label."),
    (
        "shunt_tasks",
        "Live tasks of this process that serve calls, connections or jobs.",
    ),
];
