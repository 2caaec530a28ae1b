//! What a provider tells of its limits, in header lines: `Retry-After` and the rate limits. Whatever
//! it says, the wait can be added to a clock, and what is left lies between nothing and the limit.
#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use shunt::upstream::quota::Quota;
use shunt::upstream::refusal::retry_after;
use tokio::time::Instant;

const NAMES: [&str; 16] = [
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
];

fuzz_target!(|bytes: &[u8]| {
    let quota = Quota::new(&shunt::config::Quota::default());
    // Each answer ends with an empty line; a line is `name: value`, or a letter for a name.
    let mut headers = HeaderMap::new();
    for line in bytes
        .split(|byte| *byte == b'\n')
        .chain([&b""[..]])
        .take(80)
    {
        let Some(at) = line.iter().position(|byte| *byte == b':') else {
            let now = Instant::now();
            let rest = retry_after(&headers, SystemTime::UNIX_EPOCH);
            if let Some(rest) = rest {
                assert!(
                    now.checked_add(rest)
                        .is_some_and(|at| at.checked_add(Duration::from_secs(1)).is_some()),
                    "{rest:?}"
                );
                assert!(SystemTime::now().checked_add(rest).is_some());
            }
            quota.answered(&headers, now, quota.mark());
            quota.sent(bytes.len() as u64, now);
            if rest.is_some() {
                quota.refused(now, rest, now);
            }
            for left in quota.left(now) {
                assert!(
                    (0.0..=left.limit as f64).contains(&left.remaining),
                    "{left:?}"
                );
            }
            match quota.room(now) {
                Ok(room) => assert!(room > 0),
                Err(held) => assert!(
                    now.checked_add(held.wait).is_some() || held.wait == Duration::MAX,
                    "{held:?}"
                ),
            }
            headers.clear();
            continue;
        };
        let name = match &line[..at] {
            [letter] => {
                HeaderName::from_bytes(NAMES[usize::from(*letter) % NAMES.len()].as_bytes())
            }
            name => HeaderName::from_bytes(name),
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&line[at + 1..])) {
            headers.append(name, value);
        }
    }
});
