//! Answers that another attempt may improve on, and when it may come.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header::RETRY_AFTER};

/// OpenAI's and Anthropic's finer form.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// What OpenAI and Anthropic say of a call, and their SDKs obey.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The longest wait that is believed: a clock can be moved on by it.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Statuses that another attempt may improve on.
pub fn retryable(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500 | 502 | 503 | 504 | 529)
}

/// The label of a status that is tried again.
pub fn label(status: u16) -> &'static str {
    match status {
        408 => "408",
        409 => "409",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        529 => "529",
        _ => "status",
    }
}

/// Statuses of a provider that is there for nobody just now: it did nothing for the call.
pub fn is_away(status: u16) -> bool {
    matches!(status, 502 | 503 | 529)
}

/// Whether the provider says that the same call would come to the same there, as where a quota is used up
/// that only a payment renews. Another provider may do better.
pub fn is_final(headers: &HeaderMap) -> bool {
    headers
        .get(SHOULD_RETRY)
        .is_some_and(|says| says == "false")
}

/// How long the provider asks to be left alone: `retry-after-ms`, else `Retry-After` (RFC 9110
/// 10.2.3) in seconds or as a date; at most a year. `None` where it says nothing that can be read.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| {
        let number: f64 = text.parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(number)
    };
    let wait = |seconds| {
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST);
        Some(wait.min(LONGEST))
    };
    if let Some(millis) = text(&RETRY_AFTER_MS).and_then(number) {
        return wait(millis / 1e3);
    }
    let told = text(&RETRY_AFTER)?;
    if let Some(seconds) = number(told) {
        return wait(seconds);
    }
    let date = httpdate::parse_http_date(told).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header value"));
        retry_after(&headers, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn only_a_plain_no_is_a_last_word() {
        for (says, last) in [(Some("false"), true), (Some("true"), false), (None, false)] {
            let mut headers = HeaderMap::new();
            if let Some(says) = says {
                headers.insert("x-should-retry", says.parse().expect("a header value"));
            }
            assert_eq!(is_final(&headers), last, "{says:?}");
        }
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        assert_eq!(
            told("retry-after-ms", "1500"),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(told("retry-after", "2"), Some(Duration::from_secs(2)));
        let date = "Thu, 01 Jan 1970 00:00:30 GMT";
        assert_eq!(told("retry-after", date), Some(Duration::from_secs(30)));
        for nonsense in ["soon", "-1", "NaN", "1e400"] {
            assert_eq!(told("retry-after", nonsense), None, "{nonsense}");
        }
        assert_eq!(told("x-other", "2"), None);
    }

    /// Found by the fuzz target `limits`: the retry's moment was the clock and this wait, and the sum
    /// panicked.
    #[test]
    fn a_wait_can_always_be_added_to_a_clock() {
        for endless in [
            "9223372036854775807",
            "18446744073709551615",
            "1e19",
            "1e300",
        ] {
            for name in ["retry-after", "retry-after-ms"] {
                let wait = told(name, endless).expect("it is a number");
                assert!(std::time::Instant::now().checked_add(wait).is_some());
            }
            assert_eq!(told("retry-after", endless), Some(LONGEST));
        }
        let date = "Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(told("retry-after", date), Some(LONGEST));
    }
}
