//! What an answer's head tells of a provider's rate limits, in OpenAI's and Anthropic's headers.
//!
//! Promises: pure; what cannot be read counts as not told; a head without such headers costs one
//! look at its names, without hashing.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

/// The longest time to a reset that is believed.
const LONGEST: Duration = Duration::from_hours(24 * 31);

/// Numbers above this are no rate limit.
const MOST: u64 = 1 << 48;

/// One limit as an answer told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// How much there is when nothing is used; at least 1.
    pub limit: u64,
    /// How much is left; at most `limit`.
    pub remaining: u64,
    /// How long it takes until all of it is back; `None`: not told.
    pub reset: Option<Duration>,
}

/// What one answer told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Requests.
    pub requests: Option<Line>,
    /// Tokens: the line of which the least is left, where there are several.
    pub tokens: Option<Line>,
}

/// A line whose parts are still being found.
#[derive(Clone, Copy, Default)]
struct Parts {
    limit: Option<u64>,
    remaining: Option<u64>,
    reset: Option<Duration>,
}

impl Parts {
    fn line(self) -> Option<Line> {
        let limit = self.limit.filter(|limit| (1..=MOST).contains(limit))?;
        Some(Line {
            limit,
            remaining: self.remaining?.min(limit),
            reset: self.reset.filter(|reset| *reset <= LONGEST),
        })
    }
}

/// Which line a header belongs to, and which part of it.
fn place(name: &str) -> Option<(usize, &str)> {
    if let Some(rest) = name.strip_prefix("x-ratelimit-") {
        let (part, kind) = rest.split_once('-')?;
        return Some((kind_of(kind)?, part));
    }
    let (kind, part) = name
        .strip_prefix("anthropic-ratelimit-")?
        .rsplit_once('-')?;
    Some((kind_of(kind)?, part))
}

fn kind_of(text: &str) -> Option<usize> {
    ["requests", "tokens", "input-tokens"]
        .iter()
        .position(|kind| *kind == text)
}

impl Told {
    /// Reads a head. `clock` is asked only if a moment is told.
    pub fn read(headers: &HeaderMap, clock: impl Fn() -> Timestamp) -> Self {
        let mut lines = [Parts::default(); 3];
        for (name, value) in headers {
            let Some((kind, part)) = place(name.as_str()) else {
                continue;
            };
            let Some(text) = value.to_str().ok().map(str::trim) else {
                continue;
            };
            match part {
                "limit" => lines[kind].limit = text.parse().ok(),
                "remaining" => lines[kind].remaining = text.parse().ok(),
                "reset" => lines[kind].reset = reset(text, &clock),
                _ => {}
            }
        }
        let [requests, tokens, input] = lines.map(Parts::line);
        Self {
            requests,
            tokens: tighter(tokens, input),
        }
    }
}

/// The line of which the smaller share is left.
fn tighter(one: Option<Line>, other: Option<Line>) -> Option<Line> {
    let (Some(first), Some(second)) = (one, other) else {
        return one.or(other);
    };
    let share = |line: Line| line.remaining as f64 / line.limit as f64;
    Some(if share(second) < share(first) {
        second
    } else {
        first
    })
}

/// Time until a reset: a duration (`6m0s`, `120ms`), bare seconds, or an RFC 3339 moment.
fn reset(text: &str, clock: &impl Fn() -> Timestamp) -> Option<Duration> {
    if text.contains('T') {
        let moment: Timestamp = text.parse().ok()?;
        let left = moment.duration_since(clock());
        // A moment without a fraction may have been cut to its second: it counts to that
        // second's end, since a bucket that is thought to fill too soon is spent too soon.
        let cut = Duration::from_secs(u64::from(!text.contains('.')));
        let left = if left.is_negative() {
            Duration::ZERO
        } else {
            left.unsigned_abs() + cut
        };
        return Some(left);
    }
    duration(text)
}

/// Go's notation of durations, which OpenAI uses; a bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|one: char| one.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "" if digits == text.len() => 1.0,
            _ => return None,
        };
        rest = &rest[letters..];
        total += number * unit;
    }
    if text.is_empty() {
        return None;
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    fn read(lines: &[(&'static str, &str)]) -> Told {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a header value"));
        }
        Told::read(&headers, || at("2026-11-24T10:00:00Z"))
    }

    fn line(limit: u64, remaining: u64, millis: u64) -> Line {
        Line {
            limit,
            remaining,
            reset: Some(Duration::from_millis(millis)),
        }
    }

    #[test]
    fn openai_tells_durations() {
        let told = read(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        assert_eq!(told.requests, Some(line(60, 59, 1_000)));
        assert_eq!(told.tokens, Some(line(150_000, 149_984, 360_000)));
    }

    #[test]
    fn anthropic_tells_moments_and_the_tighter_kind_of_tokens_counts() {
        let told = read(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-11-24T10:00:02Z"),
            ("anthropic-ratelimit-tokens-limit", "100"),
            ("anthropic-ratelimit-tokens-remaining", "90"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-24T10:00:01.5Z"),
            ("anthropic-ratelimit-input-tokens-limit", "80"),
            ("anthropic-ratelimit-input-tokens-remaining", "20"),
            (
                "anthropic-ratelimit-input-tokens-reset",
                "2026-11-24T10:00:45.250Z",
            ),
            ("anthropic-ratelimit-output-tokens-remaining", "1"),
        ]);
        assert_eq!(told.requests, Some(line(50, 49, 3_000)));
        assert_eq!(told.tokens, Some(line(80, 20, 45_250)));
    }

    #[test]
    fn every_form_of_a_reset_is_read() {
        for (text, millis) in [
            ("120ms", 120),
            ("1m30.951s", 90_951),
            ("1h2m3s", 3_723_000),
            ("2d", 172_800_000),
            ("0s", 0),
            ("10", 10_000),
            ("0.5", 500),
            ("2026-11-24T09:00:00Z", 0),
        ] {
            let clock = || at("2026-11-24T10:00:00Z");
            let told = reset(text, &clock);
            assert_eq!(told, Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_half_told_or_nonsense_counts_as_not_told() {
        let only = [("x-ratelimit-remaining-requests", "5")];
        assert_eq!(read(&only), Told::default());
        for limit in ["0", "-1", "many", "", "99999999999999999999", "1e3"] {
            let told = read(&[
                ("x-ratelimit-limit-requests", limit),
                ("x-ratelimit-remaining-requests", "5"),
            ]);
            assert_eq!(told, Told::default(), "{limit}");
        }
        for unknown in ["soon", "1x", "s", "1.2.3s", "-1s", "1sT", "9999999h", "5s7"] {
            let told = read(&[
                ("x-ratelimit-limit-requests", "10"),
                ("x-ratelimit-remaining-requests", "12"),
                ("x-ratelimit-reset-requests", unknown),
            ]);
            let requests = told.requests.expect("a line");
            assert_eq!(
                (requests.remaining, requests.reset),
                (10, None),
                "{unknown}"
            );
        }
    }

    proptest! {
        #[test]
        fn nonsense_never_panics_and_tells_nothing_impossible(
            lines in prop::collection::vec((0..9usize, "\\PC{0,24}|[0-9.hmsT:Z-]{0,24}"), 0..9),
        ) {
            let mut headers = HeaderMap::new();
            for (at, text) in lines {
                let kind = ["requests", "tokens", "input-tokens"][at % 3];
                let part = ["limit", "remaining", "reset"][at / 3];
                let name = format!("anthropic-ratelimit-{kind}-{part}");
                let name: HeaderName = name.parse().expect("a name");
                if let Ok(value) = HeaderValue::from_str(&text) {
                    headers.append(name, value);
                }
            }
            let told = Told::read(&headers, || at("2026-11-24T10:00:00Z"));
            for line in [told.requests, told.tokens].into_iter().flatten() {
                prop_assert!(line.limit > 0 && line.remaining <= line.limit);
                prop_assert!(line.reset.is_none_or(|reset| reset <= LONGEST));
            }
        }
    }
}
