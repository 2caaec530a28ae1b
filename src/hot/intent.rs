//! What the caller asked of the gateway, read once into one value (section 4 of the contract).
//!
//! Promises: every word that Shunt knows is either understood or refused with a sentence, and so is a
//! header that looks like a misspelt one of Shunt's; unknown preferences are ignored, as RFC 7240 wants.

mod spelling;

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use self::spelling::spelt_right;
use super::scope::is_name;
use crate::cold::priority::Priority;
use crate::config::Period;
use crate::prefer::{pair, split};

/// What a caller asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// A 202 is welcome.
    pub respond_async: bool,
    /// How long to wait before it.
    pub wait: Option<Duration>,
    /// Where the result is to be sent.
    pub callback: Option<String>,
    /// This call's budget.
    pub budget: Option<Duration>,
    /// How long the caller's SDK itself will wait.
    pub patience: Option<Duration>,
    /// What makes every sending of this call one call.
    pub key: Option<String>,
    /// How often the caller's SDK has sent this call before; `None`: it is no such SDK.
    pub retry: Option<u32>,
    /// The pipeline that it belongs to.
    pub scope: Option<String>,
    /// What all calls of that pipeline have together, from the first on.
    pub scope_budget: Option<Duration>,
    /// How urgent it is among its caller's jobs, if it becomes one.
    pub priority: Priority,
}

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const RETRY: HeaderName = HeaderName::from_static("x-stainless-retry-count");
const SCOPE: HeaderName = HeaderName::from_static("x-shunt-scope");
const PRIORITY: HeaderName = HeaderName::from_static("x-shunt-priority");
const SCOPE_BUDGET: HeaderName = HeaderName::from_static("x-shunt-scope-budget");

/// Preferences that speak to the gateway alone; RFC 7240: in upper or lower case.
const OURS: [&str; 3] = ["respond-async", "callback", "odata.callback"];

/// Longest `Idempotency-Key`.
const LONGEST_KEY: usize = 255;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const CALLBACK: HeaderName = HeaderName::from_static("x-shunt-callback");
const BUDGET: HeaderName = HeaderName::from_static("x-shunt-budget");
const PATIENCE: [HeaderName; 2] = [
    HeaderName::from_static("x-stainless-read-timeout"),
    HeaderName::from_static("x-stainless-timeout"),
];

impl Intent {
    /// Reads the headers.
    ///
    /// # Errors
    /// A sentence that says what to send instead.
    pub fn read(headers: &HeaderMap) -> Result<Self, String> {
        let mut intent = Self::default();
        // Most callers say nothing: one look at the names, no hashing.
        let speaks =
            |name: &HeaderName| *name == PREFER || *name == KEY || name.as_str().starts_with("x-s");
        if !headers.keys().any(speaks) {
            return Ok(intent);
        }
        spelt_right(headers)?;
        for line in headers.get_all(PREFER) {
            let line = line
                .to_str()
                .map_err(|_| "Prefer holds bytes that are no text; send ASCII".to_owned())?;
            for preference in split(line, ',') {
                intent.prefer(preference.trim())?;
            }
        }
        if let Some(url) = headers.get(CALLBACK) {
            let url = url
                .to_str()
                .map_err(|_| "X-Shunt-Callback is no text; send an https URL".to_owned())?;
            intent.callback = Some(url.trim().to_owned());
        }
        intent.budget = period(headers, &BUDGET, "X-Shunt-Budget")?;
        intent.scope_budget = period(headers, &SCOPE_BUDGET, "X-Shunt-Scope-Budget")?;
        intent.scope = scope(headers)?;
        if intent.scope.is_none() && intent.scope_budget.is_some() {
            return Err("X-Shunt-Scope-Budget is nothing without X-Shunt-Scope; send both".into());
        }
        intent.priority = priority(headers)?;
        intent.key = key(headers)?;
        let retry = headers.get(RETRY).and_then(|count| count.to_str().ok());
        intent.retry = retry.and_then(|count| count.trim().parse().ok());
        intent.respond_async |= intent.callback.is_some();
        intent.patience = PATIENCE.iter().find_map(|name| seconds(headers, name));
        Ok(intent)
    }

    fn prefer(&mut self, preference: &str) -> Result<(), String> {
        let mut parts = split(preference, ';');
        let (name, value) = pair(parts.next().unwrap_or_default());
        match name.to_ascii_lowercase().as_str() {
            "respond-async" => self.respond_async = true,
            "wait" => {
                let wait = value.parse::<u32>().map_err(|_| {
                    format!("Prefer: wait={value} is not a whole number of seconds; send wait=2")
                })?;
                // RFC 7240: the first of several stands.
                self.wait
                    .get_or_insert(Duration::from_secs(u64::from(wait)));
            }
            "callback" | "odata.callback" => {
                let url = parts
                    .map(pair)
                    .find(|(name, _)| name.eq_ignore_ascii_case("url"))
                    .map(|(_, value)| value.trim())
                    .filter(|url| !url.is_empty());
                let url = url.ok_or_else(|| {
                    "Prefer: callback has no address; send callback; url=\"https://…\"".to_owned()
                })?;
                self.callback.get_or_insert(url.to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether this header line speaks to the gateway rather than to the provider.
pub fn is_for_the_gateway(name: &HeaderName, value: &[u8]) -> bool {
    if name.as_str().starts_with("x-shunt-") {
        return true;
    }
    let ours = |preference: &str| {
        let (word, _) = pair(split(preference, ';').next().unwrap_or_default());
        OURS.iter().any(|one| word.eq_ignore_ascii_case(one))
    };
    let line = || std::str::from_utf8(value).unwrap_or_default();
    *name == PREFER && split(line(), ',').any(ours)
}

fn period(headers: &HeaderMap, name: &HeaderName, told: &str) -> Result<Option<Duration>, String> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let period: Period = text.parse().map_err(|why| format!("{told}: {why}"))?;
    Ok(Some(period.get()))
}

fn scope(headers: &HeaderMap) -> Result<Option<String>, String> {
    let Some(value) = headers.get(SCOPE) else {
        return Ok(None);
    };
    let name = value.to_str().unwrap_or_default().trim();
    if is_name(name) {
        return Ok(Some(name.to_owned()));
    }
    Err("X-Shunt-Scope is no name; send 1 to 128 visible ASCII characters without a slash".into())
}

fn priority(headers: &HeaderMap) -> Result<Priority, String> {
    let Some(value) = headers.get(PRIORITY) else {
        return Ok(Priority::default());
    };
    let text = value.to_str().unwrap_or_default().trim();
    Priority::parse(text).ok_or_else(|| {
        "X-Shunt-Priority is no priority; send a whole number from 0 to 9, 9 for what goes first".into()
    })
}

/// The key, with or without the quotes of a structured field (RFC 8941).
fn key(headers: &HeaderMap) -> Result<Option<String>, String> {
    let Some(value) = headers.get(KEY) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let key = quoted.unwrap_or(text);
    if (1..=LONGEST_KEY).contains(&key.len()) {
        return Ok(Some(key.to_owned()));
    }
    Err(format!(
        "Idempotency-Key is no key; send 1 to {LONGEST_KEY} ASCII characters"
    ))
}

fn seconds(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let text = headers.get(name)?.to_str().ok()?;
    let seconds: f64 = text.trim().parse().ok()?;
    let sane = seconds.is_finite() && seconds > 0.0 && seconds < 1e6;
    sane.then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> Result<Intent, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Intent::read(&headers)
    }

    #[test]
    fn a_wait_and_a_callback_are_read_from_one_line_or_several() {
        let one = read(&[(
            "prefer",
            "respond-async, wait=2, callback; url=\"https://a.example/x?y=1,2;3\"",
        )])
        .unwrap();
        let several = read(&[
            ("prefer", "respond-async"),
            ("prefer", "wait=2"),
            ("x-shunt-callback", "https://a.example/x?y=1,2;3"),
        ])
        .unwrap();
        assert_eq!(one, several);
        assert!(one.respond_async);
        assert_eq!(one.wait, Some(Duration::from_secs(2)));
        assert_eq!(one.callback.as_deref(), Some("https://a.example/x?y=1,2;3"));
    }

    #[test]
    fn a_callback_implies_the_opt_in() {
        let intent = read(&[("x-shunt-callback", "https://a.example/")]).unwrap();
        assert!(intent.respond_async);
    }

    #[test]
    fn a_known_word_with_a_wrong_value_is_refused_with_a_sentence() {
        for line in ["wait=soon", "wait=-1", "callback", "callback; url="] {
            let why = read(&[("prefer", line)]).unwrap_err();
            assert!(why.contains("send "), "{why}");
        }
        assert!(read(&[("x-shunt-budget", "fast")]).is_err());
    }

    #[test]
    fn a_misspelt_header_is_refused_and_another_one_is_none_of_its_business() {
        for (wrong, right) in [
            ("x-shunt-bugdet", "X-Shunt-Budget"),
            ("x-shunt-callbacks", "X-Shunt-Callback"),
            ("x-shunt-scope-buget", "X-Shunt-Scope-Budget"),
            ("x-shuntbudget", "X-Shunt-Budget"),
        ] {
            let why = read(&[(wrong, "1s")]).unwrap_err();
            assert_eq!(why, format!("there is no header {wrong}; send {right}"));
        }
        for other in [
            "x-shunt-route",
            "x-shunt-request-id",
            "x-shunt-tenant",
            "x-stainless-lang",
        ] {
            assert_eq!(read(&[(other, "1s")]), Ok(Intent::default()));
        }
    }

    #[test]
    fn unknown_preferences_are_ignored() {
        let intent = read(&[("prefer", "handling=lenient, return=minimal")]).unwrap();
        assert_eq!(intent, Intent::default());
    }

    /// Found by the fuzz target `intent`: what stands before and after it was part of the address.
    #[test]
    fn a_quoted_address_is_read_as_the_one_of_the_header_is() {
        let one = read(&[("prefer", "callback; url=\" https://a.example/\t\"")]).unwrap();
        let other = read(&[("x-shunt-callback", " https://a.example/\t")]).unwrap();
        assert_eq!(one, other);
        assert!(read(&[("prefer", "callback; url=\" \"")]).is_err());
    }

    /// Found by the fuzz target `intent`: a callback's address went on to the provider.
    #[test]
    fn what_is_read_as_the_gateways_does_not_go_on_however_it_is_written() {
        let ours = |line: &str| is_for_the_gateway(&PREFER, line.as_bytes());
        for line in [
            "Respond-Async",
            "wait=2, CALLBACK; url=\"https://a.example/\"",
            "OData.Callback ; url=x",
        ] {
            assert!(ours(line), "{line}");
            assert!(read(&[("prefer", line)]).unwrap().respond_async || line.starts_with('O'));
        }
        for line in [
            "wait=60",
            "handling=lenient; x=callback",
            "a=\"b, respond-async\"",
        ] {
            assert!(!ours(line), "{line}");
            assert!(!read(&[("prefer", line)]).unwrap().respond_async);
        }
    }

    #[test]
    fn the_patience_of_sdks_is_read_and_nonsense_is_not() {
        let intent = read(&[("x-stainless-read-timeout", "2.5")]).unwrap();
        assert_eq!(intent.patience, Some(Duration::from_millis(2_500)));
        for nonsense in ["NOT_GIVEN", "-1", "inf", ""] {
            let intent = read(&[("x-stainless-read-timeout", nonsense)]).unwrap();
            assert_eq!(intent.patience, None, "{nonsense}");
        }
    }

    #[test]
    fn a_key_is_the_same_with_and_without_quotes_and_a_bad_one_is_refused() {
        let key = |text: &str| read(&[("idempotency-key", text)]).map(|intent| intent.key);
        assert_eq!(key("\"a-1\"").unwrap().as_deref(), Some("a-1"));
        assert_eq!(key("a-1"), key(" \"a-1\" "));
        for wrong in ["", "\"\"", &"x".repeat(256)] {
            assert!(key(wrong).unwrap_err().contains("send 1 to 255"), "{wrong}");
        }
    }

    #[test]
    fn a_scope_has_a_name_and_a_budget_needs_one() {
        let both = [("x-shunt-scope", "run:7"), ("x-shunt-scope-budget", "10s")];
        let intent = read(&both).unwrap();
        assert_eq!(intent.scope.as_deref(), Some("run:7"));
        assert_eq!(intent.scope_budget, Some(Duration::from_secs(10)));
        assert!(read(&both[1..]).unwrap_err().contains("send both"));
        assert!(read(&[("x-shunt-scope", "a/b")]).is_err());
        assert!(read(&[("x-shunt-scope", "a"), ("x-shunt-scope-budget", "soon")]).is_err());
    }

    #[test]
    fn a_priority_is_read_and_what_is_none_is_refused_with_a_sentence() {
        let level =
            |text: &str| read(&[("x-shunt-priority", text)]).map(|one| one.priority.level());
        assert_eq!((level("0"), level(" 9 ")), (Ok(0), Ok(9)));
        assert_eq!(read(&[]).unwrap().priority, Priority::default());
        for wrong in ["", "10", "-1", "4.5", "high", "4, 5"] {
            assert!(level(wrong).unwrap_err().contains("from 0 to 9"), "{wrong}");
        }
    }

    #[test]
    fn an_sdk_says_how_often_it_has_sent_this_call() {
        let count = |text: &str| read(&[("x-stainless-retry-count", text)]).unwrap().retry;
        assert_eq!(count("0"), Some(0));
        assert_eq!(count("2"), Some(2));
        assert_eq!(count("many"), None);
    }
}
