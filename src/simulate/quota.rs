//! The simulated provider's rate limit: a token bucket, told in the headers of both APIs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::time::Instant;

use super::answers::Api;

/// A rate limit.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaSettings {
    /// Requests a second, and as many at once; 0: no limit.
    pub requests: u32,
    /// Whether answers tell it; a 429 always says when to come back.
    pub headers: bool,
}

impl Default for QuotaSettings {
    fn default() -> Self {
        Self {
            requests: 0,
            headers: true,
        }
    }
}

/// The limit at work.
pub struct Quota {
    settings: QuotaSettings,
    /// What is left, and when that was so.
    bucket: Mutex<(f64, Instant)>,
}

/// What the limit says to one call.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    settings: QuotaSettings,
    /// What is left after it.
    left: f64,
    /// When a refused call may come back.
    refused: Option<Duration>,
}

impl Quota {
    /// A full bucket.
    pub fn new(settings: QuotaSettings) -> Self {
        let full = f64::from(settings.requests);
        Self {
            settings,
            bucket: Mutex::new((full, Instant::now())),
        }
    }

    /// A call arrives; `None`: nothing is limited.
    pub fn take(&self) -> Option<Grant> {
        let rate = f64::from(self.settings.requests);
        if rate <= 0.0 {
            return None;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let refilled = bucket.0 + (now - bucket.1).as_secs_f64() * rate;
        let held = refilled.min(rate);
        let enough = held >= 1.0;
        let left = if enough { held - 1.0 } else { held };
        *bucket = (left, now);
        Some(Grant {
            settings: self.settings,
            left,
            refused: (!enough).then(|| Duration::from_secs_f64((1.0 - held) / rate)),
        })
    }
}

impl Grant {
    /// Whether the call is over the limit.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Tells it in an answer's head, in the names of the call's API.
    pub fn tell(&self, api: Option<Api>, headers: &mut HeaderMap) {
        let mut put = |name: &'static str, text: String| {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        if let Some(wait) = self.refused {
            let millis = wait.as_millis() + 1;
            put("retry-after-ms", millis.to_string());
            put("retry-after", millis.div_ceil(1_000).to_string());
        }
        if !self.settings.headers {
            return;
        }
        let limit = self.settings.requests;
        let left = self.left.floor();
        let full = Duration::from_secs_f64((f64::from(limit) - self.left) / f64::from(limit));
        if api == Some(Api::Message) {
            // Whole seconds, as the real one tells them.
            let at = Timestamp::now() + SignedDuration::try_from(full).unwrap_or_default();
            let at = at + SignedDuration::from_millis(999);
            put("anthropic-ratelimit-requests-limit", limit.to_string());
            put("anthropic-ratelimit-requests-remaining", left.to_string());
            put("anthropic-ratelimit-requests-reset", format!("{at:.0}"));
        } else {
            put("x-ratelimit-limit-requests", limit.to_string());
            put("x-ratelimit-remaining-requests", left.to_string());
            let reset = format!("{}ms", full.as_millis());
            put("x-ratelimit-reset-requests", reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn quota(requests: u32, headers: bool) -> Quota {
        Quota::new(QuotaSettings { requests, headers })
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_brings_as_many_as_were_promised_and_no_more() {
        let quota = quota(10, true);
        let taken = || {
            let takes = (0..100).filter_map(|_| quota.take());
            takes.filter(|one| !one.is_refused()).count()
        };
        assert_eq!(taken(), 10);
        advance(Duration::from_millis(500)).await;
        assert_eq!(taken(), 5);
        advance(Duration::from_mins(1)).await;
        assert_eq!(taken(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn every_answer_tells_what_is_left_in_its_apis_names() {
        let quota = quota(2, true);
        let mut headers = HeaderMap::new();
        let grant = quota.take().expect("a limit");
        grant.tell(Some(Api::Chat), &mut headers);
        assert_eq!(headers["x-ratelimit-limit-requests"], "2");
        assert_eq!(headers["x-ratelimit-remaining-requests"], "1");
        assert_eq!(headers["x-ratelimit-reset-requests"], "500ms");
        assert!(!headers.contains_key("retry-after"));
        grant.tell(Some(Api::Message), &mut headers);
        assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "1");
        let reset = headers["anthropic-ratelimit-requests-reset"].to_str();
        let reset: Timestamp = reset.expect("text").parse().expect("a moment");
        assert_eq!(reset.subsec_nanosecond(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_says_when_to_come_back_even_where_nothing_else_is_told() {
        let quota = quota(1, false);
        let mut headers = HeaderMap::new();
        quota.take();
        let grant = quota.take().expect("a limit");
        assert!(grant.is_refused());
        grant.tell(Some(Api::Chat), &mut headers);
        assert_eq!(headers["retry-after"], "2");
        assert_eq!(headers["retry-after-ms"], "1001");
        assert_eq!(headers.len(), 2);
        assert!(Quota::new(QuotaSettings::default()).take().is_none());
    }
}
