//! The keys in force, and a call that came with one of them.
//!
//! Promises: a look-up hashes the key once, takes no lock and allocates nothing; hashes are compared
//! in constant time, and for an id that is not known against a hash that no key has.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::file::{Entry, KeyFile};
use super::rate::{Live, Pace};
use super::text;
use crate::cold::job::{Owner, UnixMillis};
use crate::cold::shares::Shares;
use crate::config::Glob;

/// The token in `Bearer TOKEN`; the scheme's case does not matter.
pub(super) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// The gateway's keys.
pub struct Keys(HashMap<[u8; text::ID], Arc<Key>>);

/// Why a key is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is not in the file.
    NoSuchKey,
    /// Its time is over.
    Expired,
}

/// One of them.
pub struct Key {
    /// How operators call it.
    pub name: String,
    hash: [u8; 32],
    routes: Option<Vec<Glob>>,
    pace: Option<Pace>,
    concurrency: Option<usize>,
    /// Places and jobs it gets where another gets one; at least 1.
    pub share: u32,
    expires: Option<UnixMillis>,
    /// Whose its calls and jobs are.
    owner: Owner,
    /// What stands for it towards the gateway's own pages; it never leaves the gateway.
    standing: HeaderValue,
    live: Arc<Live>,
}

impl Keys {
    /// The keys in a file.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        Ok(Self::of(KeyFile::read(path)?))
    }

    fn of(file: KeyFile) -> Self {
        let keys = file.keys.into_iter();
        let keys = keys.filter_map(|one| {
            let id = one.id.as_bytes().try_into().ok()?;
            Some((id, Arc::new(Key::of(one)?)))
        });
        Self(keys.collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody may call.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shares of its keys' callers.
    pub fn shares(&self) -> Shares {
        let keys = self.0.values();
        keys.map(|key| (key.owner, key.share)).collect()
    }

    /// Goes on with the counts of the keys that were in force before.
    pub fn go_on_from(&mut self, before: &Self) {
        for (id, key) in &mut self.0 {
            if let (Some(old), Some(key)) = (before.0.get(id), Arc::get_mut(key)) {
                key.live = old.live.clone();
            }
        }
    }

    /// Whose a key's text is.
    pub fn find(&self, key: &[u8]) -> Result<&Arc<Key>, Unknown> {
        let id = text::id(key).ok_or(Unknown::NoSuchKey)?;
        let found = self.0.get(&id);
        let hash = Sha256::digest(key);
        let kept = found.map_or(&[0; 32], |key| &key.hash);
        let same = bool::from(kept.ct_eq(&hash[..]));
        let key = found.filter(|_| same).ok_or(Unknown::NoSuchKey)?;
        match key.expires {
            Some(expires) if expires <= UnixMillis::now() => Err(Unknown::Expired),
            _ => Ok(key),
        }
    }
}

impl Key {
    fn of(entry: Entry) -> Option<Self> {
        let standing = format!(
            "shunt-key {} {}",
            entry.id,
            entry.sha256.to_ascii_lowercase()
        );
        let mut standing = HeaderValue::from_str(&standing).ok()?;
        standing.set_sensitive(true);
        let expires = entry
            .expires
            .and_then(|text| text.parse::<Timestamp>().ok());
        let burst = |rate: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let second = rate.ceil() as u32;
            entry.burst.unwrap_or(second)
        };
        let globs = |all: Vec<String>| all.iter().map(|one| Glob::new(one)).collect();
        Some(Self {
            hash: text::unhash(&entry.sha256)?,
            routes: entry.routes.map(globs),
            pace: entry.rate.map(|rate| Pace::new(rate, burst(rate))),
            concurrency: entry.concurrency,
            share: entry.share.unwrap_or(1),
            expires: expires.map(|moment| UnixMillis(moment.as_millisecond())),
            owner: Owner(Sha256::digest(standing.as_bytes()).into()),
            standing,
            live: Arc::new(Live::new()),
            name: entry.name,
        })
    }

    /// Whether it may call a route.
    pub fn may_call(&self, route: &str) -> bool {
        let routes = self.routes.as_ref();
        routes.is_none_or(|globs| globs.iter().any(|glob| glob.matches(route)))
    }

    /// What the gateway's own pages know it by, in place of `Authorization`.
    pub fn standing(&self) -> HeaderValue {
        self.standing.clone()
    }

    /// Begins a call.
    ///
    /// # Errors
    /// As many run as may; or the rate is used up, and a call may come after so long.
    pub fn begin(self: &Arc<Self>, now: Instant) -> Result<Admission, Option<Duration>> {
        // Without a limit nothing is counted: workers do not share a cache line for it.
        let counted = match self.concurrency {
            Some(most) if !self.live.enter(most) => return Err(None),
            limit => limit.is_some(),
        };
        let admission = Admission {
            key: self.clone(),
            counted,
        };
        let took = self.pace.map_or(Ok(()), |pace| self.live.take(pace, now));
        took.map(|()| admission).map_err(Some)
    }
}

/// A call that came with a key; while it is there, it counts as running.
pub struct Admission {
    key: Arc<Key>,
    counted: bool,
}

impl Admission {
    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whose the call is.
    pub fn owner(&self) -> Owner {
        self.key.owner
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.counted {
            self.key.live.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(more: &str) -> (Keys, String) {
        let (key, id) = text::new();
        let hash = text::hash(key.as_bytes());
        let text = format!(
            "[[keys]]\nid = \"{id}\"\nname = \"a\"\nsha256 = \"{hash}\"\ncreated = \"\"\n{more}"
        );
        (Keys::of(KeyFile::parse(&text).unwrap()), key)
    }

    #[test]
    fn only_the_whole_key_is_known() {
        let (keys, key) = keys("");
        let found = keys.find(key.as_bytes()).ok().unwrap();
        assert_eq!(found.name, "a");
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", found.standing());
        assert!(Owner::of(&headers) == found.owner);
        let (last, other) = (key.len() - 1, text::new().0);
        let changed = |to: &str| format!("{}{to}", &key[..last]);
        for wrong in [
            "",
            "shunt_",
            &key[..last],
            &changed("g"),
            &other,
            &format!("{key}0"),
        ] {
            assert_eq!(
                keys.find(wrong.as_bytes()).err(),
                Some(Unknown::NoSuchKey),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_expired_key_is_refused_and_routes_are_globs() {
        let (old, key) = keys("expires = \"2020-01-01T00:00:00Z\"");
        assert_eq!(old.find(key.as_bytes()).err(), Some(Unknown::Expired));
        let (young, key) = keys("expires = \"2999-01-01T00:00:00Z\"\nroutes = [\"chat*\"]");
        let key = young.find(key.as_bytes()).ok().unwrap();
        assert!(key.may_call("chat-eu") && !key.may_call("messages"));
    }

    #[test]
    fn a_reload_forgets_neither_what_runs_nor_what_was_used() {
        let (before, text) = keys("concurrency = 2\nrate = 1\nburst = 2");
        let now = Instant::now();
        let begin = |keys: &Keys| keys.find(text.as_bytes()).ok().unwrap().begin(now);
        let (one, two) = (begin(&before).ok().unwrap(), begin(&before).ok().unwrap());
        let mut after = Keys(
            before
                .0
                .iter()
                .map(|(id, key)| {
                    let key = Key {
                        name: key.name.clone(),
                        hash: key.hash,
                        routes: None,
                        pace: key.pace,
                        concurrency: key.concurrency,
                        share: key.share,
                        expires: None,
                        owner: key.owner,
                        standing: key.standing(),
                        live: Arc::new(Live::new()),
                    };
                    (*id, Arc::new(key))
                })
                .collect(),
        );
        after.go_on_from(&before);
        assert_eq!(begin(&after).err(), Some(None));
        drop(one);
        assert!(
            matches!(begin(&after).err(), Some(Some(_))),
            "the rate is used up"
        );
        drop(two);
        assert!(
            matches!(begin(&after).err(), Some(Some(_))),
            "a refused call gave its place back"
        );
    }
}
