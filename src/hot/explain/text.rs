//! A plan in words, a line for each question that its reader may have.

use std::fmt;

use super::Plan;
use crate::cold::job::Reason;
use crate::config::{Action, HedgeAfter, Safe};
use crate::hot::budget::Then;
use crate::hot::keepalive;
use crate::upstream::target::Target;

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = &self.route;
        writeln!(out, "{} takes {} {}", route.name, self.method, self.path)?;
        let mut line = |name: &str, says: &str| writeln!(out, "  {name:<9} {says}");
        line("because", &route.conditions())?;
        for (name, why) in &self.passed {
            line("not", &format!("{name}: {why}"))?;
        }
        line("model", &self.model())?;
        for target in route.targets.all() {
            line("sent to", &self.sent(target))?;
        }
        line("budget", &self.budget())?;
        line("past it", &self.past())?;
        line("predicted", &self.predicted())?;
        line("hedge", &self.hedge())?;
        line("retries", &self.retries())
    }
}

impl Plan {
    fn model(&self) -> String {
        let model = match (&self.peek.model, self.kept) {
            (Some(model), _) => model.clone(),
            (None, true) => "none in the body".into(),
            (None, false) if self.is_upgrade => "not read: the call asks for a tunnel".into(),
            (None, false) => "not read: the body passes as it comes".into(),
        };
        let stream = if self.peek.stream { "; a stream" } else { "" };
        format!("{model}{stream}")
    }

    fn sent(&self, target: &Target) -> String {
        let provider = &target.provider;
        let uri = provider.path(&self.inner);
        let uri = uri.and_then(|path| provider.uri(path, true));
        let uri = uri.map_or_else(|why| why.to_string(), |uri| uri.to_string());
        let model = target.model().map(|model| format!(", model {model:?}"));
        let weight = match (self.route.targets.all().len(), target.weight()) {
            (1, _) => String::new(),
            (_, 0) => ", only for hedges and retries (weight 0)".into(),
            (_, weight) => format!(", weight {weight}"),
        };
        let (label, model) = (&target.label, model.unwrap_or_default());
        format!("{label}: {uri}{model}{weight}")
    }

    fn budget(&self) -> String {
        let budget = &self.route.budget;
        let (until, key, own) = if self.peek.stream && budget.first_token < budget.total {
            ("first content", "budget.first_token", budget.first_token)
        } else if self.peek.stream {
            ("first content", "budget.total", budget.total)
        } else {
            ("last byte", "budget.total", budget.total)
        };
        let limit = self.deadline.budget;
        if limit.is_zero() && self.deadline.then.is_job() {
            return "none: the caller wants a job at once (Prefer: wait=0)".into();
        }
        let from = if self.deadline.reason == Reason::Requested {
            "the caller's Prefer: wait".into()
        } else if limit == own.get() {
            format!("the route's {key}")
        } else if self.intent.budget == Some(limit) {
            format!("the caller's X-Shunt-Budget; the route's {key} is {own}")
        } else {
            format!("the caller's SDK, which waits little longer; the route's {key} is {own}")
        };
        format!("{limit:?} to the {until}: {from}")
    }

    fn past(&self) -> String {
        let over = &self.route.over_budget;
        match self.deadline.then {
            Then::Demote => "202 and a job: the caller asks for it".into(),
            Then::SeeOther => "303 to the job's result: over_budget.unasked = \"see-other\"".into(),
            Then::GoOn("observe") => {
                "the call goes on and is counted: over_budget.action = \"observe\"".into()
            }
            Then::GoOn(_) => "the call goes on and is counted: the caller asks for no job, and \
                 over_budget.unasked = \"wait\""
                .into(),
            Then::Fail if over.action == Action::Fail => {
                "504 budget_exceeded: over_budget.action = \"fail\"".into()
            }
            Then::Fail if self.intent.respond_async => {
                "504 budget_exceeded: the body is longer than limits.body, of which no job is made"
                    .into()
            }
            Then::Fail => {
                "504 budget_exceeded: the caller asks for no job (Prefer: respond-async), \
                           and over_budget.unasked = \"fail\""
                    .into()
            }
        }
    }

    fn predicted(&self) -> String {
        match &self.route.predictor {
            _ if self.deadline.then != Then::Demote => {
                "no: only a call whose caller asks for a job is one on arrival".into()
            }
            one if one.predictions().is_none() => "no: predict.floor = 0".into(),
            one => format!(
                "a job on arrival if it has less than a {}% chance to keep its budget",
                one.floor() * 100.0
            ),
        }
    }

    fn hedge(&self) -> String {
        let hedge = &self.route.hedge;
        let kind = if self.peek.stream {
            "streams"
        } else {
            "answers"
        };
        let after = match hedge.after {
            HedgeAfter::Off => return "none: hedge.after = \"off\"".into(),
            _ if hedge.max_attempts < 2 => return "none: hedge.max_attempts = 1".into(),
            _ if !self.kept => return "none: the body is not kept".into(),
            _ if !self.safe => {
                return match hedge.safe {
                    Safe::Never => "none: hedge.safe = \"never\"".into(),
                    _ => "none: sent twice, such a call might be stored or done twice \
                          (hedge.safe = \"auto\")"
                        .into(),
                };
            }
            HedgeAfter::Fixed(period) => format!("after {period}"),
            HedgeAfter::Auto => format!("when and as often as pays, by the route's own {kind}"),
            HedgeAfter::Percentile(percent) => format!(
                "after p{percent} of the route's own {kind}, once {} are known",
                hedge.min_samples
            ),
        };
        format!(
            "{after}; at most {}% more calls, {} at once",
            hedge.max_extra * 100.0,
            hedge.max_attempts
        )
    }

    fn retries(&self) -> String {
        let busy = keepalive::period(&self.route, self.peek.stream, self.deadline.then);
        let busy = busy
            .map(|period| format!("; 200 and a comment each {period:?} until the first content"));
        let busy = busy.unwrap_or_default();
        match self.route.retries.max {
            _ if !self.kept => format!("none: the body is not kept{busy}"),
            0 => format!("none: retries.max = 0{busy}"),
            most => format!("at most {most} after a failure, within the budget{busy}"),
        }
    }
}
