//! Every route, in the order in which they are tried.
//!
//! Promises: a look at a route that cannot take a call costs nothing but its mark; targets that a reload
//! leaves as they were go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use super::Route;
use crate::config::{Config, Glob};
use crate::meter::Meter;
use crate::upstream::provider::Provider;
use crate::upstream::target::Target;

/// What is known of a route without looking at it: routes are large, and many are passed over.
struct Mark {
    /// Its path is that of the one before it, which was looked at already.
    repeats: bool,
    /// The character that its models begin with, if all begin with the same.
    begins: Option<char>,
}

/// Every route.
pub struct Table {
    routes: Vec<Arc<Route>>,
    /// What tells at a glance whether a route may take a call.
    marks: Vec<Mark>,
    providers: Vec<Arc<Provider>>,
}

impl Table {
    /// Builds the routes of a configuration; targets that were there `before` go on.
    ///
    /// # Errors
    /// A sentence naming the route that cannot be built.
    pub fn new(
        config: &Config,
        providers: &BTreeMap<String, Arc<Provider>>,
        before: Option<&Self>,
        meter: &Arc<Meter>,
    ) -> Result<Self, String> {
        let mut routes = Vec::new();
        for route in &config.routes {
            let built = Route::new(route, providers, before, meter)?;
            routes.push(Arc::new(built));
        }
        for provider in providers.values() {
            let built = Route::of_provider(provider, before, meter);
            routes.push(Arc::new(built));
        }
        let before = std::iter::once(None).chain(routes.iter().map(Some));
        let marks = before.zip(&routes).map(|(before, route)| Mark {
            repeats: before.is_some_and(|before: &Arc<Route>| before.path == route.path),
            begins: route.model.as_ref().and_then(Glob::begins_with),
        });
        Ok(Self {
            marks: marks.collect(),
            routes,
            providers: providers.values().cloned().collect(),
        })
    }

    /// It is in force from here on: the metrics tell its budgets.
    pub fn begins(&self, meter: &Meter) {
        for route in self.routes.iter().filter(|route| route.prefix.is_none()) {
            let phases = [
                ("first_token", route.budget.first_token),
                ("total", route.budget.total),
            ];
            for (phase, period) in phases {
                let labels = [("route", &*route.name), ("phase", phase)];
                let gauge = meter.gauge("shunt_budget_seconds", &labels);
                gauge.set(period.get().as_secs_f64());
            }
        }
    }

    /// Another one is in force: this one's targets are not looked after any more, however long its calls
    /// go on, and none is told to be left alone. Those that go on there stand as they stood.
    pub fn ends(&self, next: &Self) {
        for target in self.targets() {
            target.meter.healthy.set(true);
        }
        let now = Instant::now();
        next.targets().for_each(|target| target.show(now));
    }

    fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.routes.iter().flat_map(|route| route.targets.all())
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| &*route.name == name)
    }

    /// All routes, in the order they are tried.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// All providers.
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// Routes that may take this call, up to the first that needs no model to know.
    pub fn candidates<'a>(
        &'a self,
        path: &'a str,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = &'a Arc<Route>> {
        self.those(path, headers, |_| true)
    }

    /// The one that takes this call.
    pub fn taking<'a>(
        &'a self,
        path: &'a str,
        headers: &'a HeaderMap,
        model: Option<&str>,
    ) -> Option<&'a Arc<Route>> {
        let first = model.and_then(|model| model.chars().next());
        let may = move |mark: &Mark| mark.begins.is_none() || mark.begins == first;
        let mut those = self.those(path, headers, may);
        those.find(|route| route.takes_model(model))
    }

    fn those<'a>(
        &'a self,
        path: &'a str,
        headers: &'a HeaderMap,
        may: impl Fn(&Mark) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Arc<Route>> {
        let (mut certain, mut on_path) = (false, false);
        self.routes
            .iter()
            .zip(&self.marks)
            .filter(move |(route, mark)| {
                if !mark.repeats {
                    on_path = route.path.matches(path);
                }
                on_path && may(mark) && route.takes_headers(headers)
            })
            .map(|(route, _)| route)
            .take_while(move |route| {
                let more = !certain;
                certain = !route.wants_model();
                more
            })
    }
}
