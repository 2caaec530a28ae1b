//! Which calls are told on arrival that they will be jobs.
//!
//! A call whose chance to meet its budget is under the floor even at the upper end of what is
//! likely (one-sided 95%) is not kept waiting for it. Only callers that asked for a 202 are told
//! so. One such call in 50, at random, runs all the same, so that a recovery is seen by callers too
//! and the predictions can be judged. Where no job can be made, the call runs. One look-up, no
//! lock.

use std::sync::Arc;
use std::time::Duration;

use http::Response;

use super::budget::Then;
use super::demote;
use super::ready::{Ready, Refusal};
use super::relay::AnswerBody;
use crate::cold::door::Door;
use crate::cold::job::Reason;
use crate::config;
use crate::latency::{Kind, RatioBucket};
use crate::meter::{Meter, Predictions, Said, Witness};

/// The share of the calls predicted to be late that runs all the same.
const CHECKED: f64 = 0.02;

/// Most of it, whatever chance wants: twice that, and so many more.
const CHECKS_SAVED: u32 = 5;

/// A route's predictor.
pub struct Predictor {
    /// `None`: switched off.
    predictions: Option<Arc<Predictions>>,
    floor: f64,
    checks: RatioBucket,
}

/// What is predicted of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// It will hardly meet its budget.
    pub late: bool,
    /// Its caller is told so now, rather than after the wait.
    pub at_once: bool,
}

impl Predictor {
    /// The predictor of `route`; it goes on with what was learned before a reload.
    pub fn new(meter: &Meter, route: &str, settings: &config::Predict) -> Self {
        let on = settings.floor > 0.0;
        Self {
            predictions: on.then(|| meter.predictions(route, settings)),
            floor: settings.floor,
            checks: RatioBucket::new(2.0 * CHECKED, CHECKS_SAVED),
        }
    }

    /// What was learned, and how predictions turned out; `None`: it is off.
    pub fn predictions(&self) -> Option<&Arc<Predictions>> {
        self.predictions.as_ref()
    }

    /// A call with less chance than this is told on arrival.
    pub fn floor(&self) -> f64 {
        self.floor
    }

    /// Whether a call of this kind is likely to miss this budget.
    pub fn ask(&self, kind: Kind, budget: Duration) -> Prediction {
        let known = self.predictions.as_ref();
        let late = known.is_some_and(|one| one.classes.at_most(kind, budget) < self.floor);
        let mut at_once = late;
        if late {
            self.checks.earn();
            at_once = rand::random::<f64>() >= CHECKED || !self.checks.try_spend();
        }
        Prediction { late, at_once }
    }

    /// Where the time of such a call's first attempt counts, and for what was said of the call.
    pub fn witness(&self, kind: Kind, said: Option<Said>) -> Option<Witness> {
        let predictions = self.predictions.clone()?;
        Some(Witness::new(predictions, kind, said))
    }

    /// Of the calls that the classes remember of streams, or of others: the share that would be told
    /// at once under such a budget. `None`: it is off, or there are none.
    pub fn told(&self, streamed: bool, budget: Duration) -> Option<f64> {
        let predictions = self.predictions.as_ref()?;
        let (all, below) = predictions.classes.below(streamed, budget, self.floor);
        (all > 0.0).then(|| below / all)
    }
}

/// Makes a call a job before it has run, where that is predicted to be its end; gives it back where
/// it is to run, also because no job can be made of it. `margin` is taken off its budget for the
/// hand-off.
pub(super) async fn at_once(
    door: &Door,
    mut ready: Box<Ready>,
    margin: Duration,
) -> Result<Result<Response<AnswerBody>, Refusal>, Box<Ready>> {
    let predictor = &ready.route.predictor;
    if ready.deadline.then != Then::Demote || predictor.predictions().is_none() {
        return Err(ready);
    }
    let spent = ready.arrived.elapsed() + margin;
    let budget = ready.deadline.budget.saturating_sub(spent);
    let prediction = predictor.ask(ready.call.kind, budget);
    ready.said = Some(Said {
        late: prediction.late,
        budget,
    });
    if !prediction.at_once {
        return Err(ready);
    }
    ready.record.lets_go(ready.deadline.budget);
    let told = demote::at_once(door, ready, Reason::Predicted).await;
    // Where no job could be made of it, it runs.
    told.map_err(|mut ready| {
        ready.record.goes_on();
        ready
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn predictor(floor: f64) -> (Arc<Meter>, Predictor, Kind) {
        let meter = Meter::new(1);
        let settings = config::Predict {
            floor,
            ..config::Predict::default()
        };
        let predictor = Predictor::new(&meter, "r", &settings);
        (meter, predictor, Kind::new(false, Some("m"), Some(9), 1))
    }

    fn see(predictor: &Predictor, kind: Kind, took: Duration, times: u32) {
        for _ in 0..times {
            let witness = predictor.witness(kind, None).expect("it is on");
            witness.ended(took);
        }
    }

    #[test]
    fn of_the_calls_that_will_be_late_about_one_in_fifty_runs() {
        let (meter, predictor, kind) = predictor(0.05);
        see(&predictor, kind, 20 * SECOND, 200);
        meter.tick(SECOND);
        let asked = (0..5_000).map(|_| predictor.ask(kind, 10 * SECOND));
        let run = asked.filter(|one| one.late && !one.at_once).count();
        // 100 are expected; five standard deviations either way, and the bound on chance.
        assert!((50..=150).contains(&run), "{run}");
        assert!(!predictor.ask(kind, 30 * SECOND).late);
    }

    #[test]
    fn a_chance_at_the_floor_is_given() {
        let (meter, predictor, kind) = predictor(0.05);
        see(&predictor, kind, 20 * SECOND, 950);
        see(&predictor, kind, 5 * SECOND, 50);
        meter.tick(SECOND);
        assert!(!predictor.ask(kind, 10 * SECOND).late);
        see(&predictor, kind, 20 * SECOND, 1_000);
        meter.tick(2 * SECOND);
        assert!(predictor.ask(kind, 10 * SECOND).late);
        let told = predictor
            .told(false, 10 * SECOND)
            .expect("there are samples");
        assert!(told > 0.99);
        assert_eq!(predictor.told(true, 10 * SECOND), None);
    }

    #[test]
    fn switched_off_it_neither_learns_nor_tells() {
        let (_meter, predictor, kind) = predictor(0.0);
        assert!(predictor.witness(kind, None).is_none());
        assert!(!predictor.ask(kind, Duration::ZERO).late);
        assert_eq!(predictor.told(false, SECOND), None);
    }
}
