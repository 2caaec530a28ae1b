//! What the types cannot say: names that must exist, values that must fit together.

mod auth;
mod doubts;
mod store;
mod told;

use std::collections::HashSet;

pub(super) use doubts::doubts;

use super::load::Problem;
use super::{
    Concurrency, ConcurrencyMode, Config, MISSPELT, PathPattern, Predict, Route, SecretSource,
    Secrets,
};
use crate::nearest::nearest;

/// Paths of the public listener that no provider can have as its name.
const RESERVED: [&str; 5] = ["jobs", "scopes", "v1", "v1beta", ".well-known"];

/// Most attempts of one call at once, and most retries.
const MOST_ATTEMPTS: u32 = 4;
const MOST_RETRIES: u32 = 10;

/// Most calls that wait for a place at one target.
const MOST_WAITING: usize = 10_000;

/// Most of what is held at once; more is a slip of the finger, and no machine has it.
const MOST_AT_ONCE: usize = 1_000_000;
/// Most threads of a kind.
const MOST_THREADS: usize = 1_024;

/// Classes of calls that a route can tell apart: fewer tell nothing, more are megabytes.
const LEAST_CLASSES: usize = 8;
const MOST_CLASSES: usize = 4_096;

struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, key: impl Into<String>, says: impl Into<String>) {
        let (key, says) = (key.into(), says.into());
        self.0.push(Problem { key, says });
    }
}

/// Every mistake.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    if config.listen.public == config.listen.admin && config.listen.public.port() != 0 {
        found.add(
            "listen.admin",
            "is the public address too; give it a port of its own",
        );
    }
    auth::check(config, &mut found);
    for key in config.names.that_are_zero() {
        found.add(format!("names.{key}"), "must be above 0");
    }
    for (key, threads) in [
        ("names.threads", config.names.threads),
        ("server.workers", config.server.workers),
    ] {
        at_most(key, threads, MOST_THREADS, &mut found);
    }
    for (name, provider) in &config.providers {
        providers(name, provider, &mut found);
    }
    if config.providers.is_empty() {
        found.add(
            "providers",
            "there is none; add [providers.openai] with a base_url",
        );
    }
    let mut names = HashSet::new();
    for (at, route) in config.routes.iter().enumerate() {
        let key = format!("routes[{at}]");
        if !names.insert(&route.name) {
            let says = format!(
                "`{}` is taken by an earlier route; choose another",
                route.name
            );
            found.add(format!("{key}.name"), says);
        }
        if config.providers.contains_key(&route.name) {
            let says = format!(
                "`{}` is a provider's built-in route; choose another",
                route.name
            );
            found.add(format!("{key}.name"), says);
        }
        routes(&key, route, config, &mut found);
    }
    limits(config, &mut found);
    callbacks(config, &mut found);
    told::check(config, &mut found);
    found.0
}

fn at_most(key: &str, number: usize, most: usize, found: &mut Found) {
    if number > most {
        found.add(key, format!("must be at most {most}"));
    }
}

fn is_name(name: &str) -> bool {
    let fits = |one: char| one.is_ascii_alphanumeric() || "_.-".contains(one);
    (1..=64).contains(&name.len()) && name.chars().all(fits)
}

fn providers(name: &str, provider: &super::Provider, found: &mut Found) {
    let key = format!("providers.{name}");
    if RESERVED.contains(&name) {
        found.add(
            &*key,
            "is a path of the gateway itself; choose another name",
        );
    } else if !is_name(name) {
        found.add(
            &*key,
            "is no name; use letters, digits, `_`, `.` and `-`, at most 64",
        );
    }
    let uri = provider.base_url.parse::<http::Uri>().ok();
    let fits = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    });
    if !fits {
        let says = "is not an address; write https://api.example.com, with an optional path";
        found.add(format!("{key}.base_url"), says);
    }
    let secured = provider.ca.is_some() || provider.client_cert.is_some();
    if secured && provider.base_url.starts_with("http:") {
        let says = "is without TLS, of which ca and client_cert speak; write https://";
        found.add(format!("{key}.base_url"), says);
    }
    if let Some(source) = &provider.api_key {
        secret(&format!("{key}.api_key"), source, found);
    }
    if provider.idle_connections == 0 {
        found.add(format!("{key}.idle_connections"), "must be at least 1");
    }
    if !(0.0..=1.0).contains(&provider.quota.reserve_for_hot) {
        found.add(
            format!("{key}.quota.reserve_for_hot"),
            "must be from 0 to 1; 0.3 means that jobs leave 30% of the quota to hot calls",
        );
    }
    concurrency(&format!("{key}.concurrency"), &provider.concurrency, found);
}

fn concurrency(key: &str, concurrency: &Concurrency, found: &mut Found) {
    let Concurrency {
        limit, min, max, ..
    } = *concurrency;
    if limit == 0 || min == 0 {
        found.add(
            key,
            "limit and min must be at least 1; to limit nothing write mode = \"off\"",
        );
    }
    if concurrency.mode == ConcurrencyMode::Adaptive && !(min..=max).contains(&limit) {
        found.add(key, "limit must be from min to max: it begins there");
    }
    if concurrency.queue > MOST_WAITING {
        let says = format!("must be at most {MOST_WAITING}: each call that waits holds its body");
        found.add(format!("{key}.queue"), says);
    }
}

fn secret(key: &str, source: &SecretSource, found: &mut Found) {
    if source.env.is_some() == source.file.is_some() {
        found.add(
            key,
            "needs exactly one of env and file; write { env = \"NAME\" }",
        );
    }
}

fn meant(name: &str, config: &Config) -> String {
    let known = config.providers.keys().map(String::as_str);
    nearest(name, known, MISSPELT).map_or_else(
        || format!("; add [providers.{name}]"),
        |known| format!("; did you mean `{known}`?"),
    )
}

fn routes(key: &str, route: &Route, config: &Config, found: &mut Found) {
    if !is_name(&route.name) {
        let says = "is no name; use letters, digits, `_`, `.` and `-`, at most 64";
        found.add(format!("{key}.name"), says);
    }
    if let Err(says) = PathPattern::parse(&route.matches.path) {
        found.add(format!("{key}.match.path"), says);
    }
    for name in route.matches.header.keys() {
        if name.parse::<http::HeaderName>().is_err() {
            let says = format!("`{name}` is no header name");
            found.add(format!("{key}.match.header"), says);
        }
    }
    let targets: Vec<_> = route
        .targets
        .iter()
        .map(super::TargetEntry::table)
        .collect();
    for target in &targets {
        if !config.providers.contains_key(&target.provider) {
            let hint = meant(&target.provider, config);
            let says = format!("the provider `{}` is not configured{hint}", target.provider);
            found.add(format!("{key}.targets"), says);
        }
    }
    if targets.is_empty() {
        found.add(
            format!("{key}.targets"),
            "is empty; name at least one provider",
        );
    } else if targets.iter().all(|target| target.weight == 0) {
        found.add(
            format!("{key}.targets"),
            "all weights are 0; give one target a weight above 0",
        );
    }
    numbers(key, route, found);
}

fn numbers(key: &str, route: &Route, found: &mut Found) {
    let budget = &route.budget;
    for (name, period) in [
        ("first_token", budget.first_token),
        ("total", budget.total),
        ("idle", budget.idle),
        ("connect", budget.connect),
    ] {
        if period.get().is_zero() {
            found.add(format!("{key}.budget.{name}"), "must be longer than 0s");
        }
    }
    if !(0.0..=1.0).contains(&route.hedge.max_extra) {
        found.add(
            format!("{key}.hedge.max_extra"),
            "must be from 0 to 1; 0.05 means 5% more calls",
        );
    }
    if !(1..=MOST_ATTEMPTS).contains(&route.hedge.max_attempts) {
        let says = format!("must be from 1 to {MOST_ATTEMPTS}");
        found.add(format!("{key}.hedge.max_attempts"), says);
    }
    predict(key, &route.predict, found);
    if route.retries.max > MOST_RETRIES {
        found.add(
            format!("{key}.retries.max"),
            format!("must be at most {MOST_RETRIES}"),
        );
    }
    if route.cold.max_attempts == 0 || route.cold.concurrency == 0 {
        found.add(
            format!("{key}.cold"),
            "max_attempts and concurrency must be at least 1",
        );
    }
    let (key_of, running) = (format!("{key}.cold.concurrency"), route.cold.concurrency);
    at_most(&key_of, running, MOST_AT_ONCE, found);
    if route.cold.deadline.get().is_zero() {
        found.add(format!("{key}.cold.deadline"), "must be longer than 0s");
    }
}

fn predict(key: &str, predict: &Predict, found: &mut Found) {
    if !(0.0..=0.5).contains(&predict.floor) {
        let says = "must be from 0 to 0.5; 0.05 means a chance of 5%, and 0 is off";
        found.add(format!("{key}.predict.floor"), says);
    }
    if predict.min_samples == 0 {
        found.add(format!("{key}.predict.min_samples"), "must be at least 1");
    }
    if !(LEAST_CLASSES..=MOST_CLASSES).contains(&predict.classes) {
        let says = format!("must be from {LEAST_CLASSES} to {MOST_CLASSES}");
        found.add(format!("{key}.predict.classes"), says);
    }
}

fn limits(config: &Config, found: &mut Found) {
    let limits = &config.limits;
    for (name, zero) in [
        ("head", limits.head.0 < 8 << 10),
        ("headers", limits.headers < 16),
        ("connections", limits.connections == 0),
        ("operators", limits.operators == 0),
        ("streams", limits.streams == 0),
        ("head_timeout", limits.head_timeout.get().is_zero()),
    ] {
        if zero {
            let says = "is too small to take a call; see config/reference.toml for the default";
            found.add(format!("limits.{name}"), says);
        }
    }
    for (name, number) in [
        ("limits.connections", limits.connections),
        ("limits.operators", limits.operators),
        ("cold.postgres.queue", config.cold.postgres.queue),
    ] {
        at_most(name, number, MOST_AT_ONCE, found);
    }
    if limits.answer.0 == 0 {
        let says = "must be above 0: no job could keep its answer";
        found.add("limits.answer", says);
    }
    if config.cold.retention.get().is_zero() {
        let says = "must be longer than 0s: no caller could read its answer";
        found.add("cold.retention", says);
    }
    for (name, says) in limits.caller.mistakes() {
        found.add(format!("limits.caller.{name}"), says);
    }
    store::check(&config.cold, found);
    let variable = |name: &str| {
        let fits = |one: char| one.is_ascii_alphanumeric() || one == '_';
        !name.is_empty() && name.chars().all(fits)
    };
    let keys = config.cold.seal_keys_env.as_deref();
    if keys.is_some_and(|name| !variable(name)) {
        // Not shown: it may be a key.
        let says = "is no name of an environment variable; write seal_keys_env = \
                    \"SHUNT_SEAL_KEYS\" and export the keys under that name";
        found.add("cold.seal_keys_env", says);
    }
    if config.cold.queue_limit == 0 {
        found.add("cold.queue_limit", "must be at least 1");
    }
}

fn callbacks(config: &Config, found: &mut Found) {
    let callbacks = &config.callbacks;
    for (key, sources) in [
        ("callbacks.secret", &callbacks.secret),
        ("callbacks.signing_key", &callbacks.signing_key),
    ] {
        for one in sources.iter().flat_map(Secrets::all) {
            secret(key, one, found);
        }
    }
    for entry in &callbacks.allow {
        let bare = entry.strip_suffix('*').unwrap_or(entry);
        let uri = bare.parse::<http::Uri>().ok();
        let fits = uri.is_some_and(|uri| uri.authority().is_some())
            && bare.starts_with("http")
            && bare.matches('/').count() >= 3;
        if !fits {
            let says = format!(
                "`{entry}` is no URL with a path; write https://hooks.example.com/* for all of a host"
            );
            found.add("callbacks.allow", says);
        }
    }
    if !(0.0..=1.0).contains(&callbacks.jitter) {
        found.add("callbacks.jitter", "must be from 0 to 1");
    }
    if callbacks.concurrency == 0 || callbacks.timeout.get().is_zero() {
        found.add("callbacks", "concurrency and timeout must be above 0");
    }
    if callbacks.per_endpoint == 0 {
        found.add("callbacks.per_endpoint", "must be at least 1");
    }
    if callbacks.rest.get().is_zero() || callbacks.rest > callbacks.rest_max {
        let says = "must be above 0s and at most callbacks.rest_max; to switch it off write \
                    rest_after = 0";
        found.add("callbacks.rest", says);
    }
}
