//! Which series are of the configuration in force.
//!
//! Promises: a route, target or provider that a reload took out is told no more, however long calls of
//! it still run; one that comes back counts on from where it was, as a counter must. Where there was no
//! reload nothing is looked at.

use std::collections::{HashMap, HashSet};

/// The routes in force, each with its targets.
#[derive(Default)]
pub struct Live {
    routes: HashMap<String, HashSet<String>>,
    /// Routes and targets that have a limit of calls.
    limited: HashSet<(String, String)>,
}

/// What is told only of a target that has a limit.
const LIMIT: &str = "shunt_concurrency_limit{";

/// A label's value, as the text format wants it.
pub fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Live {
    /// A route is in force, and sends to these.
    pub fn add<'a>(&mut self, route: &str, targets: impl Iterator<Item = &'a str>) {
        let targets = targets.chain([super::route::NO_TARGET]).map(escaped);
        self.routes.insert(escaped(route), targets.collect());
    }

    /// A route's target gets so many calls at once and no more.
    pub fn limits(&mut self, route: &str, target: &str) {
        self.limited.insert((escaped(route), escaped(target)));
    }

    /// Whether a series of these labels is told; the empty name is that of every route.
    pub(super) fn tells(&self, route: &str, target: Option<&str>) -> bool {
        let target = target.map(escaped);
        route.is_empty() || self.knows(Some(&escaped(route)), target.as_deref(), None)
    }

    /// The same, of escaped values. A provider is a route by its own name.
    fn knows(&self, route: Option<&str>, target: Option<&str>, provider: Option<&str>) -> bool {
        let known = |name: &str| self.routes.contains_key(name);
        let targets = |targets: &HashSet<String>| target.is_none_or(|one| targets.contains(one));
        provider.is_none_or(known)
            && match route {
                Some(route) => self.routes.get(route).is_some_and(targets),
                None => target.is_none() || self.routes.values().any(targets),
            }
    }

    fn has_limit(&self, route: Option<&str>, target: Option<&str>) -> bool {
        let of = |label: Option<&str>| label.unwrap_or_default().to_owned();
        self.limited.contains(&(of(route), of(target)))
    }

    /// What is left of a text in Prometheus's format.
    pub(super) fn only(&self, text: &str) -> String {
        let told = |line: &&str| {
            if line.starts_with('#') {
                return true;
            }
            let (route, target) = (label(line, "route"), label(line, "target"));
            self.knows(route, target, label(line, "provider"))
                && (!line.starts_with(LIMIT) || self.has_limit(route, target))
        };
        text.split_inclusive('\n').filter(told).collect()
    }
}

/// A label's value in a line, still escaped.
pub fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let begins = format!("{name}=\"");
    let mut rest = line;
    loop {
        let at = rest.find(&begins)?;
        // In another label's value a quote would be escaped; a longer name may end the same.
        let whole = rest[..at].ends_with(['{', ',']);
        rest = &rest[at + begins.len()..];
        if whole {
            break;
        }
    }
    let mut before = ' ';
    let end = rest.find(|one| {
        let ends = one == '"' && before != '\\';
        before = if before == '\\' { ' ' } else { one };
        ends
    });
    end.map(|end| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{Meter, Metric};

    #[test]
    fn what_a_reload_took_out_is_told_no_more() {
        let meter = Meter::new(1);
        let count = |route, target| {
            let labels = [("route", route), ("target", target)];
            meter.counter("shunt_retries_total", &labels).increment(3);
        };
        let told = |what: &str| meter.render().contains(what);
        for (route, target) in [
            ("a", "p"),
            ("a", "q:\"m\\"),
            ("a", "none"),
            ("b", "q:\"m\\"),
        ] {
            count(route, target);
        }
        meter.gauge("shunt_tasks", &[]).set(1.0);
        for target in ["p", "q:\"m\\"] {
            let labels = [("target", target)];
            meter.gauge("shunt_attempts_inflight", &labels).set(1.0);
            let labels = [("provider", target)];
            meter.gauge("shunt_quota_job_rate", &labels).set(1.0);
        }
        let histograms = || meter.tracked().len();
        for route in ["a", "b", ""] {
            meter.track(Metric::Overhead, route, None);
        }
        meter.track(Metric::TokenGap, "a", Some("p"));
        let all = meter.render();
        assert_eq!((all.matches("route=").count(), histograms()), (4, 4));

        let mut live = Live::default();
        live.add("a", ["p"].into_iter());
        live.add("p", ["p"].into_iter());
        meter.keep(live);
        assert!(told("{route=\"a\",target=\"p\"} 3") && told("{route=\"a\",target=\"none\"} 3"));
        assert!(told("shunt_tasks 1") && told("inflight{target=\"p\"}"));
        assert!(told("job_rate{provider=\"p\"}"));
        assert!(!told("route=\"b\"") && !told("q:"));
        assert_eq!(histograms(), 3);

        let mut live = Live::default();
        live.add("b", ["q:\"m\\"].into_iter());
        meter.keep(live);
        assert!(!told("route=\"a\"") && told("route=\"b\",target=\"q:\\\"m\\\\\"} 3"));
        assert!(told("inflight{target=\"q:") && !told("inflight{target=\"p\"}"));
        assert_eq!(histograms(), 1);
    }

    #[test]
    fn a_label_is_found_by_its_whole_name_and_ends_where_it_ends() {
        let line = r#"x{subroute="no",model=",route=\"no",route="a\\",target="b\",c"} 1"#;
        assert_eq!(label(line, "route"), Some(r"a\\"));
        assert_eq!(label(line, "target"), Some(r#"b\",c"#));
        assert_eq!(label(line, "provider"), None);
    }
}
