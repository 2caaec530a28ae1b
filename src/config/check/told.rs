//! Mistakes about what is told of calls.

use super::{Found, secret};
use crate::config::{Config, Glob, LogFormat, Size};

pub(super) fn check(config: &Config, found: &mut Found) {
    log(config, found);
    traces(config, found);
}

fn traces(config: &Config, found: &mut Found) {
    let traces = &config.traces;
    if let Some(endpoint) = &traces.endpoint {
        let uri = endpoint.parse::<http::Uri>().ok();
        let fits = uri.as_ref().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
        });
        if !fits {
            let says = "is not an address; write http://127.0.0.1:4317";
            found.add("traces.endpoint", says);
        }
        let secured = traces.ca.is_some() || traces.client_cert.is_some();
        if fits && secured && endpoint.starts_with("http:") {
            let says = "is without TLS, of which ca and client_cert speak; write https://";
            found.add("traces.endpoint", says);
        }
    }
    for (name, source) in &traces.headers {
        if name.parse::<http::HeaderName>().is_err() {
            found.add("traces.headers", format!("`{name}` is no header name"));
        }
        secret(&format!("traces.headers.{name}"), source, found);
    }
    if !(0.0..=1.0).contains(&traces.sample) {
        found.add("traces.sample", "must be from 0 to 1; 0.1 keeps a tenth");
    }
    if traces.timeout.get().is_zero() {
        found.add("traces.timeout", "must be longer than 0s");
    }
    if traces.queue == 0 {
        found.add("traces.queue", "must be at least 1");
    }
    content(config, found);
}

/// What is told of prompts and answers: a route that was misspelt would be missed only later.
fn content(config: &Config, found: &mut Found) {
    let traces = &config.traces;
    for route in &traces.content {
        let glob = Glob::new(route);
        if !config.routes.iter().any(|one| glob.matches(&one.name)) {
            let says = format!("`{route}` is no route; name one of [[routes]], or \"*\" for each");
            found.add("traces.content", says);
        }
    }
    // A batch of spans must pass receivers that take 4 MiB.
    if !(Size(1)..=Size(512 << 10)).contains(&traces.content_limit) {
        found.add("traces.content_limit", "must be from 1 to 512KiB");
    }
    if traces.content_memory < traces.content_limit {
        let says = "is less than content_limit; 32MiB are some hundred calls";
        found.add("traces.content_memory", says);
    }
}

fn log(config: &Config, found: &mut Found) {
    let log = &config.access_log;
    if log.queue == 0 {
        found.add("access_log.queue", "must be at least 1");
    }
    if log.file.is_some() && log.format == LogFormat::Off {
        let says = "is written only with a format; write format = \"json\"";
        found.add("access_log.file", says);
    }
    if log
        .file
        .as_ref()
        .is_some_and(|path| path.as_os_str().is_empty())
    {
        let says = "is empty; name a file, or leave it out for standard output";
        found.add("access_log.file", says);
    }
}
