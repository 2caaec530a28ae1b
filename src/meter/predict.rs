//! What the attempts of a route tell of calls like theirs, and how predictions turned out.
//!
//! Promises: an attempt counts at most once in its class, and a prediction is judged at most once, by
//! the same time. Counting takes no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::Counter;

use super::Meter;
use crate::config;
use crate::latency::{Classes, Kind};

/// How a prediction turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// Predicted to miss its budget, and its run took longer.
    Right,
    /// Predicted to miss it, and its run would have made it.
    Wrong,
    /// Not predicted, and its run took longer.
    Missed,
    /// Not predicted, and its run made it.
    Met,
}

impl Turned {
    const ALL: [Self; 4] = [Self::Right, Self::Wrong, Self::Missed, Self::Met];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Missed => "missed",
            Self::Met => "met",
        }
    }
}

/// One route's classes of calls, and the judgement of its predictions.
pub struct Predictions {
    /// What is known of each class.
    pub classes: Classes,
    pub(super) route: Arc<str>,
    settings: config::Predict,
    turned: [(Counter, AtomicU64); Turned::ALL.len()],
}

impl Predictions {
    pub(super) fn new(meter: &Meter, route: &str, settings: &config::Predict) -> Self {
        let counter = |turned: Turned| {
            let labels = [("route", route), ("result", turned.as_str())];
            let counter = meter.counter("shunt_predictions_total", &labels);
            (counter, AtomicU64::new(0))
        };
        Self {
            classes: Classes::new(settings.classes, settings.min_samples),
            route: route.into(),
            settings: settings.clone(),
            turned: Turned::ALL.map(counter),
        }
    }

    /// Whether its classes are made as these settings want.
    pub(super) fn is_for(&self, settings: &config::Predict) -> bool {
        self.settings.classes == settings.classes
            && self.settings.min_samples == settings.min_samples
    }

    /// How many turned out so.
    pub fn turned(&self, turned: Turned) -> u64 {
        self.turned[turned as usize].1.load(Ordering::Relaxed)
    }

    /// Of the calls that were predicted to miss their budget, the share that did.
    pub fn precision(&self) -> Option<f64> {
        let right = self.turned(Turned::Right);
        share(right, right + self.turned(Turned::Wrong))
    }

    /// Of the calls that missed their budget, the share that was predicted to.
    pub fn recall(&self) -> Option<f64> {
        let right = self.turned(Turned::Right);
        share(right, right + self.turned(Turned::Missed))
    }

    fn judge(&self, turned: Turned) {
        let (counter, total) = &self.turned[turned as usize];
        counter.increment(1);
        total.fetch_add(1, Ordering::Relaxed);
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// What was said of a call before it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// It would miss its budget.
    pub late: bool,
    /// Its budget.
    pub budget: Duration,
}

/// Where an attempt's time counts: in its class, and for what was said of it.
pub struct Witness {
    predictions: Arc<Predictions>,
    kind: Kind,
    said: Option<Said>,
}

impl Witness {
    /// Of a call of this kind; `said`: only where its caller would take a 202.
    pub fn new(predictions: Arc<Predictions>, kind: Kind, said: Option<Said>) -> Self {
        Self {
            predictions,
            kind,
            said,
        }
    }

    /// The attempt ran to its end, or to its first content, in this time.
    pub fn ended(self, took: Duration) {
        self.predictions.classes.ended(self.kind, took);
        if let Some(said) = self.said {
            self.predictions
                .judge(match (said.late, took > said.budget) {
                    (true, true) => Turned::Right,
                    (true, false) => Turned::Wrong,
                    (false, true) => Turned::Missed,
                    (false, false) => Turned::Met,
                });
        }
    }

    /// The attempt was given up at this age: past its budget it has missed it, before nobody knows.
    pub fn given_up(self, age: Duration) {
        self.predictions.classes.given_up(self.kind, age);
        if let Some(said) = self.said
            && age > said.budget
        {
            let turned = if said.late {
                Turned::Right
            } else {
                Turned::Missed
            };
            self.predictions.judge(turned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_prediction_is_judged_by_the_run_and_only_where_that_tells() {
        let meter = Meter::new(1);
        let predictions = meter.predictions("r", &config::Predict::default());
        let of = |late| {
            let said = Said {
                late,
                budget: 100 * MS,
            };
            let kind = Kind::new(false, None, None, 1);
            Witness::new(predictions.clone(), kind, Some(said))
        };
        for _ in 0..3 {
            of(true).ended(101 * MS);
        }
        of(true).ended(100 * MS);
        of(true).given_up(50 * MS);
        of(false).given_up(50 * MS);
        of(false).given_up(101 * MS);
        of(false).ended(100 * MS);
        let counts = Turned::ALL.map(|turned| predictions.turned(turned));
        assert_eq!(counts, [3, 1, 1, 1]);
        assert_eq!(predictions.precision(), Some(0.75));
        assert_eq!(predictions.recall(), Some(0.75));
        assert!(
            meter
                .render()
                .contains("shunt_predictions_total{route=\"r\",result=\"right\"} 3")
        );
    }

    #[test]
    fn a_reload_keeps_what_was_learned_unless_the_classes_change() {
        let meter = Meter::new(1);
        let settings = config::Predict::default();
        let first = meter.predictions("r", &settings);
        let floor = config::Predict {
            floor: 0.1,
            ..settings.clone()
        };
        assert!(Arc::ptr_eq(&first, &meter.predictions("r", &floor)));
        assert!(!Arc::ptr_eq(&first, &meter.predictions("s", &settings)));
        let more = config::Predict {
            classes: 128,
            ..settings
        };
        assert!(!Arc::ptr_eq(&first, &meter.predictions("r", &more)));
    }
}
