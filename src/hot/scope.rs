//! Scopes: structured concurrency across the calls of one pipeline (section 6 of the contract).
//!
//! Promises: calls of one caller under one name share a deadline, counted from the first of them,
//! and are cancelled together, hot ones here and jobs through the door; for a minute after that
//! later calls are refused. Bounded: as many scopes as `limits.scopes`, and no caller's close it to
//! others; one that rests for a minute is forgotten, one with a deadline ahead after ten. Takes no lock.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cold::job::Owner;
use crate::config::Dialect;

/// A cancelled scope refuses calls for so long; one at rest is kept so long.
const REST: Duration = Duration::from_mins(1);

/// A scope at rest is kept for its deadline's sake so long.
const LONGEST_REST: Duration = Duration::from_mins(10);

/// Longest name.
const LONGEST: usize = 128;

/// Counts of callers' scopes. Callers whose numbers end alike share one, which nobody can bring about who
/// does not know the other's credentials.
const SHARES: usize = 1_024;

/// Scopes that are few, however small the limit is.
const FEW: usize = 16;

type Name = [u8; 32];

/// Every scope.
pub struct Scopes {
    all: papaya::HashMap<Name, Arc<Scope>>,
    shares: Box<[AtomicUsize]>,
}

impl Default for Scopes {
    fn default() -> Self {
        Self {
            all: papaya::HashMap::default(),
            shares: (0..SHARES).map(|_| AtomicUsize::new(0)).collect(),
        }
    }
}

/// A scope.
pub struct Scope {
    name: String,
    /// Which count it is in.
    share: usize,
    origin: Instant,
    deadline: OnceLock<Instant>,
    token: CancellationToken,
    members: papaya::HashMap<u64, Member>,
    numbers: AtomicU64,
    /// Calls in it, or `FORGOTTEN`: nobody enters any more.
    holders: AtomicUsize,
    /// When a call last left, or it was cancelled; microseconds from `origin`.
    touched: AtomicU64,
}

const FORGOTTEN: usize = usize::MAX;

/// A call that runs in a scope.
#[derive(Clone)]
pub struct Member {
    /// Its `X-Shunt-Request-Id`.
    pub request: HeaderValue,
    /// Its route.
    pub route: Arc<str>,
    /// In which an answer to it would be refused.
    pub dialect: Dialect,
    /// When it arrived.
    pub arrived: Instant,
}

/// A call's place in its scope; given up when it is dropped.
pub struct Membership {
    scope: Arc<Scope>,
    number: u64,
    dialect: Dialect,
}

/// Why a call cannot enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its scope was cancelled.
    Cancelled,
    /// There are too many scopes.
    Full,
}

/// Whether a text can name a scope: 1 to 128 visible ASCII characters, no slash.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

impl Scopes {
    /// Enters a call; `budget` counts from the scope's first call, and the first one given stands.
    pub fn enter(
        &self,
        owner: Owner,
        name: &str,
        budget: Option<Duration>,
        most: usize,
        member: Member,
    ) -> Result<Membership, Closed> {
        let scope = self.hold(owner, name, most).ok_or(Closed::Full)?;
        if let Some(budget) = budget {
            scope.deadline.get_or_init(|| scope.origin + budget);
        }
        let number = scope.numbers.fetch_add(1, Ordering::Relaxed);
        let dialect = member.dialect;
        scope.members.pin().insert(number, member);
        let membership = Membership {
            scope,
            number,
            dialect,
        };
        // Looked at after it entered: a cancel in between reaches it in any case.
        if membership.scope.token.is_cancelled() {
            return Err(Closed::Cancelled);
        }
        Ok(membership)
    }

    /// A scope, held so that it is not forgotten; a new one where there is none.
    fn hold(&self, owner: Owner, name: &str, most: usize) -> Option<Arc<Scope>> {
        let (all, key, share) = (self.all.pin(), key(owner, name), share(owner));
        loop {
            let scope = match all.get(&key) {
                Some(scope) => scope,
                None if self.is_full(all.len(), share, most) => return None,
                None => {
                    let new = Arc::new(Scope::new(name, share));
                    let scope = all.get_or_insert(key, new.clone());
                    if Arc::ptr_eq(scope, &new) {
                        self.shares[share].fetch_add(1, Ordering::Relaxed);
                    }
                    scope
                }
            };
            if scope.hold() {
                return Some(scope.clone());
            }
            let _ = all.remove_if(&key, |_, other| Arc::ptr_eq(other, scope));
        }
    }

    /// Whether there is no room for one more of a caller's; what is left when half is taken is for those
    /// who have few.
    fn is_full(&self, all: usize, share: usize, most: usize) -> bool {
        let own = self.shares[share].load(Ordering::Relaxed);
        all >= most || (all >= most.div_ceil(2) && own >= most.div_ceil(10).max(FEW))
    }

    /// A scope.
    pub fn get(&self, owner: Owner, name: &str) -> Option<Arc<Scope>> {
        self.all.pin().get(&key(owner, name)).cloned()
    }

    /// Cancels a scope's calls, and refuses later ones for a minute. Gives how many ran.
    pub fn cancel(&self, owner: Owner, name: &str, most: usize) -> Result<usize, Closed> {
        let scope = self.hold(owner, name, most).ok_or(Closed::Full)?;
        let running = scope.members.len();
        scope.touch();
        scope.token.cancel();
        scope.leave();
        Ok(running)
    }

    /// Forgets scopes that rest; meant for once a second.
    pub fn sweep(&self, now: Instant) {
        self.all.pin().retain(|_, scope| {
            let forgotten = scope.forget(now);
            if forgotten {
                self.shares[scope.share].fetch_sub(1, Ordering::Relaxed);
            }
            !forgotten
        });
    }
}

/// A caller's count.
fn share(owner: Owner) -> usize {
    usize::try_from(owner.number() % SHARES as u64).expect("it is below SHARES")
}

fn key(owner: Owner, name: &str) -> Name {
    let mut hash = Sha256::new();
    hash.update(owner.0);
    hash.update(name);
    hash.finalize().into()
}

impl Scope {
    fn new(name: &str, share: usize) -> Self {
        Self {
            name: name.to_owned(),
            share,
            origin: Instant::now(),
            deadline: OnceLock::new(),
            token: CancellationToken::new(),
            members: papaya::HashMap::new(),
            numbers: AtomicU64::new(0),
            holders: AtomicUsize::new(0),
            touched: AtomicU64::new(0),
        }
    }

    /// Counts one more that holds it; `false`: it is forgotten.
    fn hold(&self) -> bool {
        let more = |holders| (holders != FORGOTTEN).then(|| holders + 1);
        let (relaxed, acquire) = (Ordering::Relaxed, Ordering::Acquire);
        self.holders.fetch_update(acquire, relaxed, more).is_ok()
    }

    /// One fewer holds it. Those that a cancelled scope refuses do not make its time longer.
    fn leave(&self) {
        if !self.token.is_cancelled() {
            self.touch();
        }
        self.holders.fetch_sub(1, Ordering::Release);
    }

    fn touch(&self) {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.touched.store(micros, Ordering::Relaxed);
    }

    /// Forgets it if it rests and its deadline has passed.
    fn forget(&self, now: Instant) -> bool {
        let touched = self.origin + Duration::from_micros(self.touched.load(Ordering::Relaxed));
        let bound = self.deadline.get().filter(|_| !self.token.is_cancelled());
        let rests = now >= touched + REST
            && (bound.is_none_or(|deadline| now >= *deadline) || now >= touched + LONGEST_REST);
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        rests
            && self
                .holders
                .compare_exchange(0, FORGOTTEN, acquire, relaxed)
                .is_ok()
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// What is left until its deadline, if it has one.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let deadline = self.deadline.get()?;
        Some(deadline.saturating_duration_since(now))
    }

    /// The calls that run.
    pub fn members(&self) -> Vec<Member> {
        self.members.pin().values().cloned().collect()
    }
}

impl Membership {
    /// The scope's name.
    pub fn name(&self) -> &str {
        &self.scope.name
    }

    /// The API that its call speaks.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Cancelled with the scope.
    pub fn token(&self) -> CancellationToken {
        self.scope.token.clone()
    }

    /// What is left until the scope's deadline, if it has one.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.scope.left(now)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.scope.members.pin().remove(&self.number);
        self.scope.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn enter(scopes: &Scopes, name: &str, budget: Option<Duration>) -> Result<Membership, Closed> {
        let member = Member {
            request: HeaderValue::from_static("req_1"),
            route: "chat".into(),
            dialect: Dialect::Plain,
            arrived: Instant::now(),
        };
        scopes.enter(Owner::ANYONE, name, budget, 2, member)
    }

    #[tokio::test(start_paused = true)]
    async fn siblings_share_the_deadline_that_the_first_of_them_began() {
        let scopes = Scopes::default();
        let first = enter(&scopes, "a", None).ok().unwrap();
        assert_eq!(first.left(Instant::now()), None);
        tokio::time::advance(2 * SECOND).await;
        let second = enter(&scopes, "a", Some(10 * SECOND)).ok().unwrap();
        let third = enter(&scopes, "a", Some(99 * SECOND)).ok().unwrap();
        for one in [&first, &second, &third] {
            assert_eq!(one.left(Instant::now()), Some(8 * SECOND));
        }
        assert_eq!(scopes.get(Owner([1; 32]), "a").map(|_| ()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_scope_refuses_for_a_minute_and_is_then_forgotten() {
        let scopes = Scopes::default();
        let member = enter(&scopes, "a", None).ok().unwrap();
        assert_eq!(scopes.cancel(Owner::ANYONE, "a", 2), Ok(1));
        assert!(member.token().is_cancelled());
        drop(member);
        for waits in [1, 58] {
            tokio::time::advance(waits * SECOND).await;
            scopes.sweep(Instant::now());
        }
        assert_eq!(enter(&scopes, "a", None).err(), Some(Closed::Cancelled));
        // The refused call left just now, and that is no reason to refuse the next for longer.
        tokio::time::advance(61 * SECOND).await;
        scopes.sweep(Instant::now());
        assert!(enter(&scopes, "a", None).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_no_more_scopes_than_the_limit_and_those_with_calls_stay() {
        let scopes = Scopes::default();
        let kept = enter(&scopes, "a", None).ok().unwrap();
        drop(enter(&scopes, "b", Some(300 * SECOND)));
        assert_eq!(enter(&scopes, "c", None).err(), Some(Closed::Full));
        tokio::time::advance(120 * SECOND).await;
        scopes.sweep(Instant::now());
        assert_eq!(scopes.all.len(), 2);
        tokio::time::advance(300 * SECOND).await;
        scopes.sweep(Instant::now());
        assert_eq!(scopes.all.len(), 1);
        drop(kept);
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_does_not_close_scopes_to_another() {
        let scopes = Scopes::default();
        let cancel = |owner: u8, name: usize| {
            let name = name.to_string();
            scopes.cancel(Owner([owner; 32]), &name, 200)
        };
        for name in 0..100 {
            assert_eq!(cancel(1, name), Ok(0));
        }
        assert_eq!(cancel(1, 100), Err(Closed::Full));
        // What it has it keeps, and others have their tenth.
        assert_eq!(cancel(1, 99), Ok(0));
        for name in 0..20 {
            assert_eq!(cancel(2, name), Ok(0));
        }
        assert_eq!(cancel(2, 20), Err(Closed::Full));
        assert_eq!(cancel(3, 0), Ok(0));
        tokio::time::advance(61 * SECOND).await;
        scopes.sweep(Instant::now());
        assert_eq!(cancel(1, 100), Ok(0));
    }

    #[test]
    fn a_name_is_visible_and_has_no_slash() {
        assert!(is_name("pipeline:42.a~b"));
        for wrong in ["", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }
}
