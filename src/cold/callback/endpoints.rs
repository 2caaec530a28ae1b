//! How many deliveries run to each receiver at once, and which receivers are left alone for a time.
//!
//! Promises: at most `places` deliveries run to one receiver; after `failures` in a row it rests,
//! longer each time, and is then asked by one delivery alone (a circuit breaker); a 429, 502 or
//! 504 halves its places and each success gives one back (additive increase, multiplicative
//! decrease: Chiu and Jain, 1989). What a slow or resting receiver cannot take soon is given back,
//! so that it takes up no other's place. Pure: time is passed in.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How receivers are treated.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// Deliveries at once to one receiver; at least 1.
    pub places: usize,
    /// Failures in a row after which it rests; 0: it never does.
    pub failures: u32,
    /// The first rest.
    pub rest: Duration,
    /// The longest rest, and the longest that its own `Retry-After` stops all deliveries to it.
    pub rest_max: Duration,
}

/// What a delivery told of its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// It answers.
    Well,
    /// It wants less: 429, 502, 504, or a 503 with `Retry-After`; how long it asked for, and the
    /// sentence for the job.
    Slower(Option<Duration>, String),
    /// It does not answer, or with an error of its own; the sentence for the job.
    Failing(String),
    /// Nothing: it was not asked.
    Nothing,
}

/// What is to become of a delivery.
#[derive(Debug, PartialEq, Eq)]
pub enum Placed<T> {
    /// Deliver it; tell `done` after.
    Go(T),
    /// It is kept here until a place is free.
    Held,
    /// Not now: after so long. Why, if the receiver rests.
    Later(T, Duration, Option<String>),
}

/// A delivery is held for a place at most so long.
const HOLD: Duration = Duration::from_millis(500);

/// What is given back comes again within this time after the receiver may be asked.
const SPREAD: Duration = Duration::from_mins(1);

/// A receiver that never answered is taken to need this long for each that is held.
const UNKNOWN: Duration = Duration::from_secs(1);

/// Receivers remembered; past it those that are idle are forgotten.
const REMEMBERED: usize = 4_096;

struct Endpoint<T> {
    running: usize,
    places: usize,
    /// In a row, and what the last was.
    failures: u32,
    failure: String,
    /// In a row.
    rests: u32,
    until: Option<Instant>,
    held: VecDeque<(T, Instant)>,
    /// Moving average of how long a delivery takes.
    took: Option<Duration>,
    /// When one last ended, or began with none beside it.
    moved: Instant,
    /// When the last one that was given back comes again.
    last: Instant,
}

/// Receivers by their origin.
pub struct Endpoints<T> {
    settings: EndpointSettings,
    all: HashMap<String, Endpoint<T>>,
    held: usize,
    looked: Option<Instant>,
}

impl<T> Endpoints<T> {
    /// No receivers yet.
    pub fn new(settings: EndpointSettings) -> Self {
        Self {
            settings,
            all: HashMap::new(),
            held: 0,
            looked: None,
        }
    }

    /// Deliveries held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Finds a place for a delivery.
    pub fn offer(&mut self, origin: &str, item: T, now: Instant) -> Placed<T> {
        if !self.all.contains_key(origin) {
            self.forget(now);
        }
        let places = self.settings.places;
        let endpoint = self
            .all
            .entry(origin.to_owned())
            .or_insert_with(|| Endpoint {
                running: 0,
                places,
                failures: 0,
                failure: String::new(),
                rests: 0,
                until: None,
                held: VecDeque::new(),
                took: None,
                moved: now,
                last: now,
            });
        if endpoint.rest(now).is_some() {
            return endpoint.later(origin, item, now);
        }
        if endpoint.running < endpoint.open() {
            endpoint.start(now);
            return Placed::Go(item);
        }
        if endpoint.held.len() < endpoint.depth(now) {
            endpoint.held.push_back((item, now));
            self.held += 1;
            return Placed::Held;
        }
        endpoint.later(origin, item, now)
    }

    /// A delivery has ended after so long. Gives what is to become of those that were held.
    pub fn done(
        &mut self,
        origin: &str,
        contact: &Contact,
        took: Duration,
        now: Instant,
    ) -> Vec<Placed<T>> {
        let Some(endpoint) = self.all.get_mut(origin) else {
            return Vec::new();
        };
        endpoint.running = endpoint.running.saturating_sub(1);
        endpoint.moved = now;
        if *contact != Contact::Nothing {
            let before = endpoint.took.unwrap_or(took);
            endpoint.took = Some((before * 7 + took) / 8);
        }
        endpoint.learn(&self.settings, contact, now);
        self.settle(origin, now)
    }

    /// Gives back what was held for too long. Looks some times a second, however often it is asked.
    pub fn tick(&mut self, now: Instant) -> Vec<(String, Placed<T>)> {
        let soon = self.looked.is_some_and(|looked| now - looked < HOLD / 4);
        if self.held == 0 || soon {
            return Vec::new();
        }
        self.looked = Some(now);
        let names: Vec<String> = self.all.keys().cloned().collect();
        let mut all = Vec::new();
        for name in names {
            let settled = self.settle(&name, now);
            all.extend(settled.into_iter().map(|placed| (name.clone(), placed)));
        }
        all
    }

    /// Starts and gives back what is held.
    fn settle(&mut self, origin: &str, now: Instant) -> Vec<Placed<T>> {
        let mut placed = Vec::new();
        let Some(endpoint) = self.all.get_mut(origin) else {
            return placed;
        };
        let resting = endpoint.rest(now).is_some();
        while let Some((item, since)) = endpoint.held.pop_front() {
            if resting || now - since > HOLD {
                placed.push(endpoint.later(origin, item, now));
            } else if endpoint.running < endpoint.open() {
                endpoint.start(now);
                placed.push(Placed::Go(item));
            } else {
                endpoint.held.push_front((item, since));
                break;
            }
            self.held -= 1;
        }
        placed
    }

    fn forget(&mut self, now: Instant) {
        if self.all.len() >= REMEMBERED {
            let busy = |one: &Endpoint<T>| one.running > 0 || !one.held.is_empty();
            self.all
                .retain(|_, one| busy(one) || one.rest(now).is_some());
        }
    }
}

impl<T> Endpoint<T> {
    /// What is left of its rest.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Places now: one alone asks a receiver that has rested.
    fn open(&self) -> usize {
        if self.rests > 0 { 1 } else { self.places }
    }

    fn start(&mut self, now: Instant) {
        if self.running == 0 {
            self.moved = now;
        }
        self.running += 1;
    }

    /// How long one takes, at least: one that hangs tells it before it ends.
    fn took(&self, unknown: Duration, now: Instant) -> Duration {
        let known = self.took.unwrap_or(unknown);
        if self.running > 0 {
            known.max(now - self.moved)
        } else {
            known
        }
    }

    /// Deliveries that it takes within the time that one may be held.
    fn depth(&self, now: Instant) -> usize {
        let took = self.took(UNKNOWN, now).max(Duration::from_micros(100));
        let each = HOLD.as_micros() / took.as_micros();
        usize::try_from(each).unwrap_or(usize::MAX) * self.open()
    }

    /// Gives a delivery back, each at a time of its own, as fast as the receiver takes them.
    fn later(&mut self, origin: &str, item: T, now: Instant) -> Placed<T> {
        let from = now + self.rest(now).unwrap_or(HOLD);
        let places = u32::try_from(self.open()).unwrap_or(u32::MAX);
        let next = self.last + self.took(Duration::ZERO, now) / places;
        self.last = if next < from || next > from + SPREAD {
            from
        } else {
            next
        };
        let why = (self.rest(now).is_some()).then(|| {
            let (failures, last) = (self.failures, &self.failure);
            format!(
                "{origin} is left alone for a time; failures in a row: {failures}, the last: {last}"
            )
        });
        Placed::Later(item, self.last - now, why)
    }

    fn learn(&mut self, settings: &EndpointSettings, contact: &Contact, now: Instant) {
        let failure = match contact {
            Contact::Nothing => return,
            Contact::Well => {
                (self.failures, self.rests, self.until) = (0, 0, None);
                self.places = (self.places + 1).min(settings.places);
                self.last = self.last.min(now);
                return;
            }
            Contact::Slower(asked, failure) => {
                self.places = (self.places / 2).max(1);
                if let Some(asked) = asked {
                    let until = now + (*asked).min(settings.rest_max);
                    self.until = self.until.max(Some(until));
                }
                failure
            }
            Contact::Failing(failure) => failure,
        };
        self.failure.clone_from(failure);
        self.failures = self.failures.saturating_add(1);
        // Those that ran when its rest began tell nothing new.
        let rests = settings.failures > 0 && self.failures >= settings.failures;
        if rests && self.rest(now).is_none() {
            let doubled = 2u32.saturating_pow(self.rests.min(20));
            let rest = settings.rest.saturating_mul(doubled).min(settings.rest_max);
            self.rests += 1;
            self.until = Some(now + rest);
        }
    }
}

#[cfg(test)]
mod tests;
