//! Counts what comes of callbacks.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;

use crate::cold::callback::Watch;
use crate::meter::{Meter, Metric, Tracked};

/// The counters.
pub(super) struct Callbacks {
    counters: Vec<(&'static str, Counter)>,
    lag: Arc<Tracked>,
}

impl Callbacks {
    pub(super) fn new(meter: &Arc<Meter>) -> Self {
        let counter = |result| {
            (
                result,
                meter.counter("shunt_callbacks_total", &[("result", result)]),
            )
        };
        Self {
            counters: ["delivered", "retried", "dead"].map(counter).into(),
            lag: meter.track(Metric::CallbackLag, "", None),
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
}
