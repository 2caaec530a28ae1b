//! Which form a call's line has: calls of one kind differ in their moments, ids, paths and tokens alone.
//!
//! Promises: two calls have one form only where all is equal that their lines share; at most 16 forms are
//! kept, and one call of a kind that is not there costs what each did without them.

use std::time::Duration;

use super::call::{Attempted, Call, Came, Kind as Why};
use super::json::Form;

/// Forms that are kept.
const SLOTS: usize = 16;

/// What the shared members of a line are made of.
#[derive(Clone, Copy, PartialEq)]
struct Kind<T> {
    /// Key, method, route, model, target, and the target of its attempt.
    texts: [Option<T>; 6],
    rest: Rest,
}

#[derive(Clone, Copy, PartialEq)]
struct Rest {
    streamed: bool,
    status: u16,
    outcome: &'static str,
    why: Option<&'static str>,
    joined: Option<&'static str>,
    budget: Option<Duration>,
    over: bool,
    attempt: Option<Attempt>,
}

/// Why it was made, what became of it, its status and its error.
type Attempt = (Why, Came, Option<u16>, Option<&'static str>);

impl<'a> Kind<&'a str> {
    /// A call's; `None`: it has hardly its like.
    fn of(call: &'a Call) -> Option<Self> {
        if call.job.is_some() || call.attempts.len() > 1 {
            return None;
        }
        let attempt = call.attempts.first();
        let told = |one: &Attempted| (one.kind, one.came, one.status, one.error);
        Some(Self {
            texts: [
                call.key.as_deref(),
                Some(call.method.as_str()),
                call.route.as_deref(),
                call.model.as_deref(),
                call.target.as_ref().map(|target| &*target.label),
                attempt.map(|one| &*one.target.label),
            ],
            rest: Rest {
                streamed: call.streamed,
                status: call.status,
                outcome: call.outcome,
                why: call.why,
                joined: call.joined,
                budget: call.budget,
                over: call.over,
                attempt: attempt.map(told),
            },
        })
    }

    fn kept(&self) -> Kind<Box<str>> {
        Kind {
            texts: self.texts.map(|text| text.map(Box::from)),
            rest: self.rest,
        }
    }

    fn is(&self, kept: &Kind<Box<str>>) -> bool {
        let mut texts = self.texts.iter().zip(&kept.texts);
        self.rest == kept.rest && texts.all(|(one, other)| *one == other.as_deref())
    }

    /// Where its form is looked for (Knuth's multiplicative hashing). Names of routes and targets stay
    /// where they are.
    fn slot(&self) -> usize {
        let [_, _, route, model, target, _] = self.texts;
        let place = |text: Option<&str>| text.map_or(0, |text| text.as_ptr().addr());
        let mixed = place(route) ^ place(target).rotate_left(20) ^ model.map_or(0, str::len);
        let mixed = mixed ^ usize::from(self.rest.status) << 1 ^ usize::from(self.rest.streamed);
        mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - SLOTS.ilog2())
    }
}

/// The forms of the calls of late.
#[derive(Default)]
pub struct Forms {
    kept: [Option<(Kind<Box<str>>, Form)>; SLOTS],
    /// The last one of a call without its like.
    other: Form,
}

impl Forms {
    /// The form of a call's line, composed where it is not there.
    pub fn of(&mut self, call: &Call, compose: impl FnOnce(&mut Form)) -> &Form {
        let Some(kind) = Kind::of(call) else {
            compose(&mut self.other);
            return &self.other;
        };
        let slot = &mut self.kept[kind.slot()];
        if !slot.as_ref().is_some_and(|(kept, _)| kind.is(kept)) {
            let mut form = slot.take().map(|(_, form)| form).unwrap_or_default();
            compose(&mut form);
            *slot = Some((kind.kept(), form));
        }
        let (_, form) = slot.as_ref().expect("it was composed just now");
        form
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use http::Request;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::config::{self, Config};
    use crate::journal::Journal;
    use crate::journal::timeline::Ending;
    use crate::meter::Meter;
    use crate::server::dry;
    use crate::upstream::target::Target;

    const FILE: &str = r#"
access_log.format = "json"
[providers.a]
base_url = "http://127.0.0.1:9"
[providers.b]
base_url = "http://127.0.0.1:9"
[[routes]]
name = "chat"
match = { path = "/*" }
targets = ["a", "b"]
"#;

    static TARGETS: LazyLock<(Config, Vec<Arc<Target>>)> = LazyLock::new(|| {
        let config = config::parse(FILE, "shunt.toml").unwrap();
        let (state, _) = dry(&config).unwrap();
        let targets = state.table.routes()[0].targets.all().to_vec();
        (config, targets)
    });

    /// A call, by what its line has in common with others.
    #[derive(Clone, Debug)]
    struct Told {
        key: Option<&'static str>,
        route: Option<&'static str>,
        model: Option<&'static str>,
        streamed: bool,
        budget: u64,
        why: Option<&'static str>,
        joined: bool,
        status: u16,
        outcome: &'static str,
        target: usize,
        job: bool,
        over: bool,
        attempts: Vec<(usize, bool)>,
    }

    fn told() -> impl Strategy<Value = Told> {
        let of =
            |all: [&'static str; 2]| proptest::option::of(proptest::sample::select(all.to_vec()));
        let texts = (
            of(["web", "night"]),
            of(["chat", "mail \"x\""]),
            of(["gpt-4o", "gpt-4.1"]),
            of(["retry", "budget_exceeded"]),
        );
        let facts = (
            any::<bool>(),
            1..3u64,
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        );
        let attempts = proptest::collection::vec((0..2usize, any::<bool>()), 0..3);
        let ends = (
            proptest::sample::select(vec![200u16, 502]),
            proptest::sample::select(vec!["served", "failed"]),
            0..2usize,
        );
        (texts, facts, attempts, ends).prop_map(|(texts, facts, attempts, ends)| {
            let ((key, route, model, why), (streamed, budget, joined, job, over)) = (texts, facts);
            let (status, outcome, target) = ends;
            Told {
                key,
                route,
                model,
                streamed,
                budget,
                why,
                joined,
                status,
                outcome,
                target,
                job,
                over,
                attempts,
            }
        })
    }

    fn tell(told: &Told, journal: &Arc<Journal>, targets: &[Arc<Target>]) {
        let now = Instant::now();
        let mut call = journal.begin(&Request::new(()), now);
        told.key.inspect(|key| call.came_with(key));
        if let Some(route) = told.route {
            call.takes(&Arc::from(route), told.model, told.streamed);
        }
        call.has(Duration::from_secs(told.budget), Duration::ZERO);
        told.why.inspect(|why| call.because(why));
        if told.joined {
            call.joins("key");
        }
        for (number, (target, won)) in told.attempts.iter().enumerate() {
            call.attempts(&targets[*target], Why::First, now);
            if *won {
                call.won(number, Some(told.status), None, now);
            } else {
                call.failed(number, None, "connect", now);
            }
        }
        if told.job {
            call.is_told_of("job_1", "budget_exceeded");
        }
        call.ends(Ending {
            at: now,
            status: told.status,
            outcome: told.outcome,
            over: told.over,
            first_token: None,
            target: Some(targets[told.target].clone()),
        });
    }

    fn meant(told: &Told) -> Value {
        let label = |target: &usize| ["a", "b"][*target];
        let attempts = told.attempts.iter().map(|(target, won)| {
            json!({
                "target": label(target), "kind": "first", "result": if *won { "won" } else { "failed" },
                "status": won.then_some(told.status), "error": (!won).then_some("connect"),
            })
        });
        let why = if told.job {
            Some("budget_exceeded")
        } else {
            told.why
        };
        json!({
            "key": told.key, "method": "GET", "path": "/", "route": told.route,
            "model": told.model.filter(|_| told.route.is_some()),
            "stream": told.streamed && told.route.is_some(), "status": told.status,
            "outcome": told.outcome, "why": why,
            "target": label(&told.target),
            "joined": told.joined.then_some("key"), "demoted": false, "job": told.job.then_some("job_1"),
            "over_budget": told.over || why == Some("budget_exceeded"),
            "budget_ms": Duration::from_secs(told.budget).as_secs_f64() * 1e3,
            "attempts": attempts.collect::<Vec<_>>(),
        })
    }

    /// Without what is each line's own.
    fn shared(line: &str) -> Value {
        let mut read: Value = serde_json::from_str(line).expect("it is JSON");
        let own = |name: &String| {
            let moment = name.ends_with("_ms") && name != "budget_ms";
            moment
                || [
                    "time",
                    "request_id",
                    "trace_id",
                    "input_tokens",
                    "output_tokens",
                ]
                .contains(&&**name)
        };
        let object = read.as_object_mut().expect("it is an object");
        object.retain(|name, _| !own(name));
        for one in object["attempts"].as_array_mut().unwrap() {
            one.as_object_mut().unwrap().retain(|name, _| !own(name));
        }
        read
    }

    /// The one, with this member of the other.
    fn with(one: &Told, other: &Told, member: usize) -> Told {
        let (mut next, other) = (one.clone(), other.clone());
        match member {
            0 => next.key = other.key,
            1 => next.route = other.route,
            2 => next.model = other.model,
            3 => next.streamed = other.streamed,
            4 => next.budget = other.budget,
            5 => next.why = other.why,
            6 => next.joined = other.joined,
            7 => next.status = other.status,
            8 => next.job = other.job,
            9 => next.over = other.over,
            10 => next.outcome = other.outcome,
            11 => next.target = other.target,
            _ => next.attempts = other.attempts,
        }
        next
    }

    proptest! {
        #[test]
        fn a_line_tells_its_own_call_whichever_lines_came_before(
            first in told(),
            changes in proptest::collection::vec((told(), 0..13usize), 1..40),
        ) {
            // Each differs from the one before in one member at most.
            let next = |last: &mut Told, (other, member): &(Told, usize)| {
                *last = with(last, other, *member);
                Some(last.clone())
            };
            let calls: Vec<_> = changes.iter().scan(first, next).collect();
            let (config, targets) = &*TARGETS;
            let journal = Journal::new(config, &Meter::new(1)).expect("there is a log");
            for call in &calls {
                tell(call, &journal, targets);
            }
            let lines = String::from_utf8(journal.left()).unwrap();
            prop_assert_eq!(lines.lines().count(), calls.len());
            for (line, call) in lines.lines().zip(&calls) {
                prop_assert_eq!(shared(line), meant(call));
            }
        }
    }
}
