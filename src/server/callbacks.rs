//! Counts what comes of callbacks.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;

use crate::cold::callback::{DeliverySettings, EndpointSettings, Watch};
use crate::cold::job::Job;
use crate::config::{self, Period};
use crate::journal::{Journal, work};
use crate::meter::{Meter, Metric, Tracked};

/// The counters.
pub(super) struct Callbacks {
    counters: Vec<(&'static str, Counter)>,
    rested: Counter,
    lag: Arc<Tracked>,
    journal: Option<Arc<Journal>>,
}

impl Callbacks {
    pub(super) fn new(meter: &Arc<Meter>, journal: Option<Arc<Journal>>) -> Self {
        let counter = |result| {
            (
                result,
                meter.counter("shunt_callbacks_total", &[("result", result)]),
            )
        };
        Self {
            counters: ["delivered", "retried", "dead"].map(counter).into(),
            rested: meter.counter("shunt_callbacks_total", &[("result", "rested")]),
            lag: meter.track(Metric::CallbackLag, "", None),
            journal,
        }
    }
}

impl Watch for Callbacks {
    fn delivered(&self, result: &'static str, lag: Duration) {
        self.lag.record(lag);
        if let Some((_, counter)) = self.counters.iter().find(|(name, _)| *name == result) {
            counter.increment(1);
        }
    }
    fn rested(&self) {
        self.rested.increment(1);
    }

    fn span(&self, job: &Job, to: (&str, u16)) -> Option<Box<work::Delivery>> {
        let number = job.callback.as_ref().map_or(0, |one| one.deliveries) + 1;
        let journal = self.journal.as_ref()?;
        journal.delivery(job.id.as_str(), &job.route, to, number)
    }
}

/// How deliveries are made, by the configuration.
pub(super) fn settings(callbacks: &config::Callbacks) -> DeliverySettings {
    DeliverySettings {
        schedule: callbacks
            .schedule
            .iter()
            .copied()
            .map(Period::get)
            .collect(),
        jitter: callbacks.jitter,
        inline_limit: callbacks.inline_limit.bytes(),
        concurrency: callbacks.concurrency,
        timeout: callbacks.timeout.get(),
        endpoints: EndpointSettings {
            places: callbacks.per_endpoint,
            failures: callbacks.rest_after,
            rest: callbacks.rest.get(),
            rest_max: callbacks.rest_max.get(),
        },
    }
}
