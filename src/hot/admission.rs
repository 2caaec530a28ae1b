//! Who calls: finds the gateway's key among a call's credentials and takes it out.
//!
//! Promises: where keys are needed nothing is read, routed or sent without one; a key of the
//! gateway's goes to no provider and into no store. Where a call carries one in `X-Shunt-Key`, its
//! other credentials pass through as before.

use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request, request};
use metrics::Counter;
use tokio::time::Instant;

use super::error::{self, Code};
use super::gateway::State;
use super::ready::Refusal;
use super::record::Record;
use super::shed::seconds;
use crate::auth::{Admission, Key, Keys, PREFIX, Unknown, is_whole};
use crate::config::Dialect;
use crate::meter::Meter;
use crate::upstream::credentials::CREDENTIALS;

/// Where a key may stand before all others; one beside it is a provider's.
static OURS: HeaderName = HeaderName::from_static("x-shunt-key");

/// Where a key may stand, in this order.
fn places() -> impl Iterator<Item = &'static HeaderName> {
    std::iter::once(&OURS).chain(&CREDENTIALS)
}

/// The keys in force and what is counted of those that they refuse.
pub struct Gate {
    /// The keys.
    pub keys: Keys,
    missing: Counter,
    unknown: Counter,
    expired: Counter,
    route: Counter,
    rate: Counter,
    concurrency: Counter,
}

impl Gate {
    /// A gate with these keys.
    pub fn new(keys: Keys, meter: &Meter) -> Self {
        let counter = |reason| meter.counter("shunt_auth_refusals_total", &[("reason", reason)]);
        Self {
            keys,
            missing: counter("missing"),
            unknown: counter("unknown"),
            expired: counter("expired"),
            route: counter("route"),
            rate: counter("rate"),
            concurrency: counter("concurrency"),
        }
    }

    /// Whose key the call carries.
    fn find(&self, headers: &HeaderMap) -> Result<&Arc<Key>, (Code, String)> {
        let told = |counter: &Counter, says: &str| {
            counter.increment(1);
            Err((Code::Unauthorized, says.to_owned()))
        };
        let Some(text) = sent(headers) else {
            let says = if carries_another(headers) {
                "the key is not known here: this gateway's begin with `shunt_`; send one as the \
                 SDK's API key, or in X-Shunt-Key beside a provider's"
            } else {
                "the call carries no key; send one of this gateway's as the SDK's API key, or in \
                 X-Shunt-Key"
            };
            return told(&self.missing, says);
        };
        match self.keys.find(text) {
            Ok(key) => Ok(key),
            Err(Unknown::Expired) => told(&self.expired, "the key has expired; ask for a new one"),
            Err(Unknown::NoSuchKey) if is_whole(text) => told(
                &self.unknown,
                "the key is not known here, or it was revoked; ask for a new one",
            ),
            Err(Unknown::NoSuchKey) => {
                told(&self.unknown, "the key was cut or mistyped; copy it again")
            }
        }
    }
}

/// A header's text, without its scheme.
fn bare(value: &[u8]) -> &[u8] {
    let bare = value.split_at_checked(7);
    let bare = bare.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    bare.map_or(value, |(_, token)| token).trim_ascii()
}

fn is_ours(value: &[u8]) -> bool {
    bare(value).starts_with(PREFIX.as_bytes())
}

/// The first text that begins as a key does.
fn sent(headers: &HeaderMap) -> Option<&[u8]> {
    let lines = places().flat_map(|name| headers.get_all(name));
    let mut texts = lines.map(HeaderValue::as_bytes);
    texts.find(|text| is_ours(text)).map(bare)
}

/// Whether a call that has no such text has other credentials.
fn carries_another(headers: &HeaderMap) -> bool {
    let mut lines = places().flat_map(|name| headers.get_all(name));
    lines.any(|line| !bare(line.as_bytes()).is_empty())
}

/// Takes out what may be a key of the gateway's.
fn take_out(headers: &mut HeaderMap) {
    for name in places() {
        if headers
            .get_all(name)
            .iter()
            .any(|line| is_ours(line.as_bytes()))
        {
            headers.remove(name);
        }
    }
}

/// Finds the caller's key and takes it out of the call; `None` where none is needed.
pub(super) fn identify<B>(
    state: &State,
    request: &mut Request<B>,
) -> Result<Option<Arc<Key>>, Refusal> {
    let Some(gate) = &state.gate else {
        return Ok(None);
    };
    match gate.find(request.headers()) {
        Ok(key) => {
            take_out(request.headers_mut());
            Ok(Some(key.clone()))
        }
        Err((code, message)) => {
            let dialect = dialect(state, request.uri().path(), request.headers());
            Err(Refusal::early(dialect, code, message))
        }
    }
}

/// The dialect of the route that would take a call.
fn dialect(state: &State, path: &str, headers: &HeaderMap) -> Dialect {
    let route = state.table.candidates(path, headers).next();
    route.map_or_else(|| error::guess(path), |route| route.dialect)
}

/// Puts the key's standing in place of a caller's credentials, for the gateway's own pages.
pub(super) fn stand_for(caller: Option<&Arc<Key>>, headers: &mut HeaderMap) {
    if let Some(key) = caller {
        headers.insert(AUTHORIZATION, key.standing());
    }
}

/// Begins a call of this key's.
pub(super) fn begin(
    state: &State,
    caller: Option<Arc<Key>>,
    parts: &request::Parts,
    now: Instant,
) -> Result<Option<Admission>, Refusal> {
    let (Some(key), Some(gate)) = (caller, &state.gate) else {
        return Ok(None);
    };
    let (wait, message) = match key.begin(now) {
        Ok(admission) => return Ok(Some(admission)),
        Err(None) => {
            gate.concurrency.increment(1);
            let says = "as many calls of this key run as it may have; wait for one to end";
            (Duration::from_secs(1), says)
        }
        Err(Some(wait)) => {
            gate.rate.increment(1);
            (
                wait,
                "the key calls more often than it may; call again after Retry-After",
            )
        }
    };
    tracing::debug!(key = key.name, ?wait, "a call over its key's limits");
    let dialect = dialect(state, parts.uri.path(), &parts.headers);
    let code = Code::RateLimited(seconds(wait));
    Err(Refusal::early(dialect, code, message))
}

/// Lets the call to its route, if its key may call that.
pub(super) fn admit(
    state: &State,
    admission: Option<Admission>,
    record: &mut Record,
) -> Result<(), (Code, String)> {
    let Some(admission) = admission else {
        return Ok(());
    };
    let (key, route) = (admission.key(), &record.route().name);
    if !key.may_call(route) {
        if let Some(gate) = &state.gate {
            gate.route.increment(1);
        }
        tracing::debug!(key = key.name, %route, "a call to a route that its key may not call");
        let message = format!("the key may not call the route `{route}`; ask for one that may");
        return Err((Code::Forbidden, message));
    }
    record.admitted(admission);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn no_key_and_a_key_of_anothers_are_told_apart() {
        for (name, value, another) in [
            ("authorization", "Bearer sk-mine", true),
            ("x-api-key", "sk-mine", true),
            ("x-shunt-key", "mine", true),
            ("authorization", "Bearer ", false),
            ("x-api-key", "", false),
            ("x-team", "a", false),
        ] {
            assert_eq!(
                carries_another(&headers(&[(name, value)])),
                another,
                "{value}"
            );
        }
    }

    #[test]
    fn a_key_is_found_wherever_an_sdk_puts_it_and_nothing_else_is_taken_out() {
        for lines in [
            [
                ("authorization", "Bearer shunt_a"),
                ("x-api-key", "sk-mine"),
            ],
            [
                ("authorization", "Bearer sk-mine"),
                ("x-api-key", "shunt_a"),
            ],
            [
                ("authorization", "Bearer sk-mine"),
                ("x-shunt-key", "shunt_a"),
            ],
            [("authorization", "bearer  shunt_a"), ("api-key", "sk-mine")],
        ] {
            let mut headers = headers(&lines);
            assert_eq!(sent(&headers), Some(&b"shunt_a"[..]));
            take_out(&mut headers);
            assert_eq!(headers.len(), 1, "{lines:?}");
            assert!(!headers.values().any(|value| is_ours(value.as_bytes())));
        }
        // A second line of the same name goes too, whatever it holds.
        let mut twice = headers(&[
            ("authorization", "Bearer sk-mine"),
            ("authorization", "Bearer shunt_a"),
        ]);
        take_out(&mut twice);
        assert!(twice.is_empty());
        assert_eq!(sent(&headers(&[("authorization", "Bearer sk-mine")])), None);
    }
}
