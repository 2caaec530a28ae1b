//! Whether all that is sent to a provider is of one account there.
//!
//! A rate limit is an account's. The gateway's own key is one account, and so is the one key that all
//! callers bring; where they bring several, a 429 speaks of one of them. Promises: knows keys by a hash
//! with a seed of its own and keeps no more; costs a hash and a load a call, where callers bring keys.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::credentials::CREDENTIALS;

/// How long two keys count as two accounts after one took the other's turn: a key that was exchanged for
/// a new one is the same account.
const MANY: Duration = Duration::from_hours(1);

/// The accounts of a provider.
pub struct Accounts {
    origin: Instant,
    seed: RandomState,
    /// The hash of the last key; zero: none came yet.
    last: AtomicU64,
    /// Until when there are several: microseconds from `origin`.
    many: AtomicU64,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            seed: RandomState::new(),
            last: AtomicU64::new(0),
            many: AtomicU64::new(0),
        }
    }
}

impl Accounts {
    /// A call with these headers is sent; without a key it is of no account.
    pub fn saw(&self, headers: &HeaderMap, now: Instant) {
        let Some(key) = CREDENTIALS.iter().find_map(|name| headers.get(name)) else {
            return;
        };
        let key = self.seed.hash_one(key.as_bytes()).max(1);
        let last = self.last.load(Ordering::Relaxed);
        if last == key {
            return;
        }
        self.last.store(key, Ordering::Relaxed);
        if last != 0 {
            self.many.store(self.micros(now + MANY), Ordering::Relaxed);
        }
    }

    /// Whether there are several.
    pub fn are_many(&self, now: Instant) -> bool {
        let until = self.many.load(Ordering::Relaxed);
        until != 0 && self.micros(now) < until
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, key: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, key.parse().expect("a header value"));
        headers
    }

    #[test]
    fn one_key_is_one_account_and_so_is_none() {
        let (accounts, now) = (Accounts::default(), Instant::now());
        for _ in 0..3 {
            accounts.saw(&HeaderMap::new(), now);
            accounts.saw(&with("authorization", "Bearer one"), now);
        }
        assert!(!accounts.are_many(now));
    }

    #[test]
    fn keys_that_take_turns_are_several_accounts_and_an_exchanged_one_is_not_for_long() {
        let (accounts, now) = (Accounts::default(), Instant::now());
        accounts.saw(&with("x-api-key", "one"), now);
        accounts.saw(&with("x-api-key", "two"), now);
        assert!(accounts.are_many(now));
        accounts.saw(&with("x-api-key", "two"), now + MANY / 2);
        assert!(!accounts.are_many(now + MANY));
    }
}
