//! Which route takes a call, and everything it needs that is known before the call comes.
//!
//! Promises: routes are tried in the file's order, then the providers' own prefixes; immutable
//! once built.

mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

pub use self::table::Table;
use super::hedge::Line;
use super::predict::Predictor;
use crate::config::{self, Dialect, Glob, PathPattern};
use crate::latency::RatioBucket;
use crate::meter::{Meter, RouteMeter};
use crate::upstream::balance::Targets;
use crate::upstream::provider::Provider;
use crate::upstream::target::Target;

/// Hedges that a quiet minute may save up.
const SAVED_HEDGES: u32 = 10;

/// Hedges that a route has at its start: its first slow call is not the one that waits.
const FIRST_HEDGES: u32 = 2;

/// A route.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Its name in answers.
    pub tag: HeaderValue,
    /// The API its targets speak.
    pub dialect: Dialect,
    /// Where its calls go.
    pub targets: Arc<Targets>,
    /// Its deadlines.
    pub budget: config::Budget,
    /// Its second attempts.
    pub hedge: config::Hedge,
    /// What happens at its deadlines.
    pub over_budget: config::OverBudget,
    /// Its further attempts.
    pub retries: config::Retries,
    /// Its jobs.
    pub cold: config::RouteCold,
    /// Which of its calls are jobs on arrival.
    pub predictor: Predictor,
    /// What it is measured with.
    pub meter: Arc<RouteMeter>,
    /// What its hedges are paid from.
    pub hedges: RatioBucket,
    streams: Line,
    answers: Line,
    path: PathPattern,
    model: Option<Glob>,
    /// One of its targets is asked for a model of its own.
    exchanges: bool,
    headers: Vec<(HeaderName, Glob)>,
    /// Taken off the path of a built-in route.
    prefix: Option<String>,
}

impl Route {
    fn of_provider(provider: &Arc<Provider>, before: Option<&Table>, meter: &Arc<Meter>) -> Self {
        let route = config::Route {
            name: provider.name.to_string(),
            matches: config::Match {
                path: format!("/{}/*", provider.name),
                model: None,
                header: BTreeMap::new(),
            },
            targets: vec![config::TargetEntry::Name(provider.name.to_string())],
            budget: config::Budget::default(),
            hedge: config::Hedge::default(),
            over_budget: config::OverBudget::default(),
            predict: config::Predict::default(),
            retries: config::Retries::default(),
            cold: config::RouteCold::default(),
        };
        let providers = BTreeMap::from([(provider.name.to_string(), provider.clone())]);
        let built = Self::new(&route, &providers, before, meter);
        let mut built = built.expect("a built-in route is valid");
        built.prefix = Some(format!("/{}", provider.name));
        built
    }

    fn new(
        route: &config::Route,
        providers: &BTreeMap<String, Arc<Provider>>,
        before: Option<&Table>,
        meter: &Arc<Meter>,
    ) -> Result<Self, String> {
        let told = |what: String| format!("routes.{}: {what}", route.name);
        let before = before.and_then(|before| before.named(&route.name));
        let before = before.map_or(&[][..], |before| before.targets.all());
        let targets = targets(route, providers, before, meter).map_err(told)?;
        let mut headers = Vec::new();
        for (name, glob) in &route.matches.header {
            let name = name
                .parse()
                .map_err(|_| told(format!("`{name}` is no header name")))?;
            headers.push((name, Glob::new(glob)));
        }
        let dialect = targets[0].provider.dialect;
        let route_meter = Arc::new(RouteMeter::new(meter, &route.name));
        let built = Self {
            name: route.name.as_str().into(),
            tag: HeaderValue::from_str(&route.name)
                .map_err(|_| told("the name holds characters that no header can carry".into()))?,
            dialect,
            exchanges: targets.iter().any(|target| target.model().is_some()),
            targets: Arc::new(Targets::new(targets)),
            budget: route.budget.clone(),
            hedge: route.hedge.clone(),
            over_budget: route.over_budget.clone(),
            retries: route.retries.clone(),
            cold: route.cold.clone(),
            predictor: Predictor::new(meter, &route.name, &route.predict),
            hedges: RatioBucket::new(route.hedge.max_extra, SAVED_HEDGES)
                .with_initial(FIRST_HEDGES),
            streams: Line::new(&route_meter.streams),
            answers: Line::new(&route_meter.answers),
            meter: route_meter,
            path: PathPattern::parse(&route.matches.path).map_err(told)?,
            model: route.matches.model.as_deref().map(Glob::new),
            headers,
            prefix: None,
        };
        built.learn();
        Ok(built)
    }

    /// Its hedging of streams, or of other answers.
    pub fn line(&self, streamed: bool) -> &Line {
        if streamed {
            &self.streams
        } else {
            &self.answers
        }
    }

    /// Learns its hedging from the windows, and tends its targets; meant for once a second.
    pub fn learn(&self) {
        self.targets.tend(Instant::now());
        for line in [&self.streams, &self.answers] {
            line.learn(&self.hedge);
        }
        let rule = self.streams.rule().or(self.answers.rule());
        let told = rule.map_or(f64::NAN, |rule| rule.delay.as_secs_f64());
        self.meter.hedge_delay.set(told);
    }

    /// Whether it is a provider's own, under the provider's name.
    pub fn is_built_in(&self) -> bool {
        self.prefix.is_some()
    }

    /// Whether it needs the body's `model` to know its calls.
    pub fn wants_model(&self) -> bool {
        self.model.is_some()
    }

    /// Whether what becomes of its calls depends on the body's `model`.
    pub fn reads_model(&self) -> bool {
        self.wants_model() || self.exchanges
    }

    /// Whether the headers are its own.
    fn takes_headers(&self, headers: &HeaderMap) -> bool {
        self.strange_header(headers).is_none()
    }

    /// The first of its headers that a call has not, or with another value.
    fn strange_header(&self, headers: &HeaderMap) -> Option<&(HeaderName, Glob)> {
        self.headers.iter().find(|(name, glob)| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            !value.is_some_and(|value| glob.matches(value))
        })
    }

    /// Whether the model is its own.
    pub fn takes_model(&self, model: Option<&str>) -> bool {
        match &self.model {
            None => true,
            Some(glob) => model.is_some_and(|model| glob.matches(model)),
        }
    }

    /// The first of its conditions that a call does not meet, in a sentence; `None`: it meets all.
    pub fn why_not(&self, path: &str, headers: &HeaderMap, model: Option<&str>) -> Option<String> {
        if !self.path.matches(path) {
            return Some(format!("its path is {}", self.path));
        }
        if let Some((name, glob)) = self.strange_header(headers) {
            let has = headers.get(name).map_or("none".into(), |value| {
                format!("`{}`", String::from_utf8_lossy(value.as_bytes()))
            });
            return Some(format!("its header {name} is `{glob}`, the call has {has}"));
        }
        let glob = self.model.as_ref().filter(|_| !self.takes_model(model))?;
        let has = model.map_or("none".into(), |model| format!("`{model}`"));
        Some(format!("its model is `{glob}`, the call has {has}"))
    }

    /// Its conditions, as they stand in the file; of a built-in route, what it is.
    pub fn conditions(&self) -> String {
        let mut all = vec![format!("path {}", self.path)];
        if let Some(prefix) = &self.prefix {
            return format!("no route of the file does, and {prefix} names a provider");
        }
        all.extend(self.model.iter().map(|glob| format!("model `{glob}`")));
        let headers = self.headers.iter();
        all.extend(headers.map(|(name, glob)| format!("header {name} `{glob}`")));
        all.join(", ")
    }

    /// The path as its targets get it.
    pub fn inner_path<'a>(&self, path_and_query: &'a str) -> &'a str {
        match &self.prefix {
            Some(prefix) => path_and_query.strip_prefix(prefix.as_str()).unwrap_or("/"),
            None => path_and_query,
        }
    }
}

fn targets(
    route: &config::Route,
    providers: &BTreeMap<String, Arc<Provider>>,
    before: &[Arc<Target>],
    meter: &Arc<Meter>,
) -> Result<Vec<Arc<Target>>, String> {
    let mut all: Vec<Arc<Target>> = Vec::new();
    for entry in &route.targets {
        let table = entry.table();
        let provider = providers
            .get(&table.provider)
            .ok_or_else(|| format!("the provider `{}` is not configured", table.provider))?;
        let mut label = table.provider.clone();
        // Two targets at one provider differ by their model.
        if let Some(model) = &table.model
            && route
                .targets
                .iter()
                .filter(|one| one.table().provider == label)
                .count()
                > 1
        {
            label = format!("{label}:{model}");
        }
        // What is known of a target, and what runs there, a reload does not forget.
        let same = |one: &&Arc<Target>| one.label == label && Arc::ptr_eq(&one.provider, provider);
        let same = before.iter().find(same);
        if let Some(same) = same.filter(|same| same.is_for(&table)) {
            all.push(same.clone());
            continue;
        }
        let mut target = Target::new(provider.clone(), &table, label, meter, &route.name)?;
        if let Some(same) = same {
            target.permits.clone_from(&same.permits);
        }
        all.push(Arc::new(target));
    }
    if all.is_empty() {
        return Err("there are no targets; name a provider".into());
    }
    Ok(all)
}
