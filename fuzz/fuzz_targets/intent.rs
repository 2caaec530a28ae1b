//! What a caller asks of the gateway, in header lines: read or refused with a sentence, always
//! within its bounds; read again from its plainest form it is the same; and no line that speaks to
//! the gateway goes on to the provider.
#![no_main]

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use shunt::fuzz::{Intent, is_name, towards_the_provider};

/// The input is header lines; a line without a colon is a `Prefer`.
fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(40) {
        let colon = line.iter().position(|byte| *byte == b':');
        let named = colon.and_then(|at| Some((HeaderName::from_bytes(&line[..at]).ok()?, at + 1)));
        let (name, from) = named.unwrap_or((HeaderName::from_static("prefer"), 0));
        if let Ok(value) = HeaderValue::from_bytes(&line[from..]) {
            headers.append(name, value);
        }
    }
    headers
}

/// The plainest lines that say the same.
fn told(intent: &Intent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: String| {
        headers.append(name, value.parse().expect("what was read can be sent"));
    };
    if intent.respond_async {
        put("prefer", "respond-async".into());
    }
    if let Some(wait) = intent.wait {
        put("prefer", format!("wait={}", wait.as_secs()));
    }
    if let Some(callback) = &intent.callback {
        put("x-shunt-callback", callback.clone());
    }
    for (name, period) in [
        ("x-shunt-budget", intent.budget),
        ("x-shunt-scope-budget", intent.scope_budget),
    ] {
        if let Some(period) = period {
            put(name, format!("{}ms", period.as_millis()));
        }
    }
    if let Some(scope) = &intent.scope {
        put("x-shunt-scope", scope.clone());
    }
    put("x-shunt-priority", intent.priority.level().to_string());
    if let Some(key) = &intent.key {
        put("idempotency-key", format!("\"{key}\""));
    }
    if let Some(retry) = intent.retry {
        put("x-stainless-retry-count", retry.to_string());
    }
    if let Some(patience) = intent.patience {
        put("x-stainless-timeout", format!("{}", patience.as_secs_f64()));
    }
    headers
}

fuzz_target!(|bytes: &[u8]| {
    let mut headers = headers(bytes);
    match Intent::read(&headers) {
        Err(why) => {
            assert!(
                why.contains("send") || why.contains("write") || why.contains("use"),
                "{why}"
            );
        }
        Ok(intent) => {
            let year = Duration::from_secs(366 * 24 * 3_600);
            assert!(
                intent
                    .wait
                    .is_none_or(|wait| wait.as_secs() <= u64::from(u32::MAX))
            );
            assert!(intent.budget.is_none_or(|budget| budget < year));
            assert!(intent.scope_budget.is_none_or(|budget| budget < year));
            assert!(
                intent
                    .patience
                    .is_none_or(|one| one < Duration::from_secs(1_000_001))
            );
            assert!(intent.scope.as_deref().is_none_or(is_name));
            assert!(intent.scope.is_some() || intent.scope_budget.is_none());
            assert!(
                intent
                    .key
                    .as_ref()
                    .is_none_or(|key| (1..=255).contains(&key.len()))
            );
            assert!(intent.respond_async || intent.callback.is_none());
            let again = Intent::read(&told(&intent)).expect("what was read");
            let near = |one: Option<Duration>| one.map(|one| one.as_micros() / 10);
            assert!(near(again.patience).is_some() == near(intent.patience).is_some());
            let patience = intent.patience;
            assert_eq!(Intent { patience, ..again }, intent);
        }
    }
    towards_the_provider(&mut headers, true);
    assert!(
        headers
            .keys()
            .all(|name| !name.as_str().starts_with("x-shunt-"))
    );
    for line in headers.get_all("prefer") {
        let mut one = HeaderMap::new();
        one.insert("prefer", line.clone());
        if let Ok(left) = Intent::read(&one) {
            assert!(!left.respond_async && left.callback.is_none(), "{line:?}");
        }
    }
});
