//! A route as its jobs see it.
//!
//! Promises: its counters are there from the start; a reload keeps the places of what runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use metrics::Counter;
use tokio::sync::Semaphore;

use crate::cold::history::Verdict;
use crate::cold::job::{Job, Reason, Status};
use crate::cold::quota;
use crate::config::RouteCold;
use crate::latency::Kind;
use crate::meter::{Meter, Metric, Predictions, Said, Tracked, Witness};
use crate::upstream::balance::Targets;

/// A route as its jobs see it.
pub struct ColdRoute {
    pub(super) targets: Arc<Targets>,
    pub(super) settings: RouteCold,
    pub(super) connect: Duration,
    pub(super) slots: Arc<Semaphore>,
    /// More jobs may be due than were taken from the store.
    pub(super) more: AtomicBool,
    pub(super) duration: Arc<Tracked>,
    pub(super) queue: Arc<Tracked>,
    pub(super) predictions: Option<Arc<Predictions>>,
    pub(super) name: String,
}

/// Attempts at a route's jobs that came to this.
pub(super) fn tried(meter: &Meter, route: &str, result: &'static str) -> Counter {
    let labels = [("route", route), ("result", result)];
    meter.counter("shunt_job_attempts_total", &labels)
}

/// A route's jobs whose end was written here, in the queue or by a run.
pub(super) fn ended(meter: &Meter, route: &str, status: Status) -> Counter {
    let labels = [("route", route), ("status", status.as_str())];
    meter.counter("shunt_jobs_ended_total", &labels)
}

impl ColdRoute {
    /// A route's jobs.
    pub fn new(
        name: &str,
        targets: Arc<Targets>,
        settings: RouteCold,
        connect: Duration,
        predictions: Option<Arc<Predictions>>,
        meter: &Arc<Meter>,
    ) -> Self {
        // Each is there from the start, or the first one would be no rise.
        for result in Verdict::RESULTS {
            _ = tried(meter, name, result);
        }
        for status in Status::ALL.iter().filter(|status| status.is_final()) {
            _ = ended(meter, name, *status);
        }
        quota::told(&targets, meter);
        Self {
            slots: Arc::new(Semaphore::new(settings.concurrency)),
            more: AtomicBool::new(false),
            duration: meter.track(Metric::JobDuration, name, None),
            queue: meter.track(Metric::JobQueue, name, None),
            name: name.to_owned(),
            targets,
            settings,
            connect,
            predictions,
        }
    }

    /// The same with the places of one that it replaces, if they are as many.
    #[must_use]
    pub fn going_on_from(self, before: &Self) -> Self {
        if self.settings.concurrency != before.settings.concurrency {
            return self;
        }
        let slots = before.slots.clone();
        Self { slots, ..self }
    }

    /// Where the time of a job's first attempt counts: a job that was predicted is judged by it.
    pub(super) fn witness(&self, job: &Job, kind: Kind) -> Option<Witness> {
        let predictions = self.predictions.clone().filter(|_| job.attempts <= 1)?;
        let predicted = job.reason == Reason::Predicted;
        let said = predicted.then(|| Said {
            late: true,
            budget: Duration::from_millis(job.budget_ms),
        });
        Some(Witness::new(predictions, kind, said))
    }
}
