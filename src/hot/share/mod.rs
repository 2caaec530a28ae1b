//! Calls that are one call: an SDK's own retry, and whoever sends the same `Idempotency-Key`, get
//! the answer of the first instead of a call of their own (section 5 of the contract).
//!
//! Promises: one call to a provider, however many share it; it goes on as long as one of them
//! waits, or `retries.keep` longer; an answer that another attempt might improve on is never
//! shared later. Takes no lock, and knows only its own caller's calls: the caller is part of
//! every name. Where there is no room to record an answer, it is not shared.

mod follow;
mod keeper;
mod lead;
mod recording;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::follow::Followed;
pub(super) use self::follow::{Joined, follow, mark_joined};
pub use self::lead::Led;
pub(super) use self::lead::lead;
use self::recording::{End, Recording, Room};
use crate::cold::recall::CallKey;
use crate::upstream::refusal::retryable;

/// Told to a caller whose key is taken.
pub(super) const OTHER: &str = "the Idempotency-Key was used for another call: the same key goes \
    with the same method, path and body; send this one with a key of its own";

/// Told to a caller whose answer could not be kept.
pub(super) const NO_ROOM: &str = "there is no room to keep an answer under an Idempotency-Key just \
    now; send it again later, without the key, or raise limits.replay";

/// Marks an answer of which the store knows already what its key stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled;

/// Whether an answer is given again to those who ask later.
fn is_lasting(status: StatusCode) -> bool {
    !status.is_server_error() && !retryable(status.as_u16())
}

/// The calls that may be joined.
#[derive(Default)]
pub struct Shares {
    /// A place is emptied when it is taken out: the map gives memory back in batches, and an answer
    /// of megabytes must not wait for one.
    all: papaya::HashMap<[u8; 32], ArcSwapOption<Share>>,
    used: Arc<AtomicUsize>,
}

/// A call that may be joined.
pub(super) struct Share {
    key: CallKey,
    recording: Recording,
    /// Those who want it, its first caller or its keeper among them; zero: given up.
    holders: AtomicUsize,
    /// Told when one of them leaves.
    left: Notify,
    /// Its first caller left.
    orphaned: Arc<AtomicBool>,
    /// It can be joined for so long after its end.
    join: Duration,
}

/// One who wants a call, until it is dropped.
pub(super) struct Holder(Arc<Share>);

/// Where a call stands among its like.
pub(super) enum Place {
    /// It is the first.
    First(Holder),
    /// It is the first, and there is no room to share it.
    Alone,
    /// Another is under way, or was answered.
    Joins(Holder),
    /// Its key stands for another call.
    Other,
}

/// How much is kept, and for how long after an answer's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// For how long.
    pub join: Duration,
    /// Bytes of all answers.
    pub all: usize,
    /// Bytes of one answer.
    pub one: usize,
}

impl Shares {
    /// Finds a call's place. `joins`: it may join another; else it is a call of its own, which
    /// later ones may join.
    pub(super) fn enter(&self, key: CallKey, joins: bool, terms: Terms) -> Place {
        let all = self.all.pin();
        loop {
            let found = all.get(&key.name).filter(|_| joins);
            if let Some(share) = found.and_then(ArcSwapOption::load_full) {
                if let Some(holder) = share.join(Instant::now()) {
                    return if share.key.print == key.print {
                        Place::Joins(holder)
                    } else {
                        Place::Other
                    };
                }
                self.forget(&share);
            }
            let room = Room {
                used: self.used.clone(),
                all: terms.all,
                one: terms.one,
            };
            let Some(recording) = Recording::new(room) else {
                return Place::Alone;
            };
            let share = Arc::new(Share {
                key,
                recording,
                holders: AtomicUsize::new(1),
                left: Notify::new(),
                orphaned: Arc::default(),
                join: terms.join,
            });
            let place = ArcSwapOption::from(Some(share.clone()));
            if !joins {
                if let Some(older) = all.insert(key.name, place) {
                    older.store(None);
                }
                return Place::First(Holder(share));
            }
            match all.try_insert(key.name, place) {
                Ok(_) => return Place::First(Holder(share)),
                // Emptied, and not taken out yet: it is taken out here.
                Err(taken) if taken.current.load().is_none() => {
                    let _ = all.remove_if(&key.name, |_, place| place.load().is_none());
                }
                Err(_) => {}
            }
        }
    }

    /// Nobody joins it any more.
    fn forget(&self, share: &Arc<Share>) {
        let same = |_: &[u8; 32], place: &ArcSwapOption<Share>| {
            let held = place.load();
            held.as_ref().is_some_and(|other| Arc::ptr_eq(other, share))
        };
        if let Ok(Some((_, place))) = self.all.pin().remove_if(&share.key.name, same) {
            place.store(None);
        }
    }

    /// Forgets what is no longer joined; meant for once a second.
    pub fn sweep(&self, now: Instant) {
        self.all.pin().retain(|_, place| {
            let over = place.load().as_ref().is_none_or(|share| {
                let ended = share.recording.end();
                ended.is_some_and(|(_, at)| now >= at + share.join)
            });
            if over {
                place.store(None);
            }
            !over
        });
    }
}

impl Share {
    /// One more wants it; `None`: it is over, or would not help.
    fn join(self: &Arc<Self>, now: Instant) -> Option<Holder> {
        let head = self.recording.head();
        if head.is_some_and(|head| !is_lasting(head.status)) {
            return None;
        }
        match self.recording.end() {
            Some((End::Whole, at)) if now < at + self.join => {
                self.holders.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => return None,
            None => {
                let more = |holders| (holders > 0).then(|| holders + 1);
                let order = (Ordering::AcqRel, Ordering::Acquire);
                self.holders.fetch_update(order.0, order.1, more).ok()?;
            }
        }
        Some(Holder(self.clone()))
    }

    /// Whether its last holder is the one who asks.
    fn is_last(&self) -> bool {
        self.holders.load(Ordering::Acquire) <= 1
    }

    /// Gives it up unless another holds it too.
    fn give_up(&self) -> bool {
        let order = (Ordering::AcqRel, Ordering::Acquire);
        self.holders
            .compare_exchange(1, 0, order.0, order.1)
            .is_ok()
    }
}

impl Holder {
    /// Set once the first caller has left.
    pub(super) fn orphaned(&self) -> Arc<AtomicBool> {
        self.0.orphaned.clone()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let fewer = |holders: usize| holders.checked_sub(1);
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let _ = self.0.holders.fetch_update(order.0, order.1, fewer);
        self.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::recording::Head;
    use super::*;
    use crate::cold::job::Owner;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(body: &str) -> CallKey {
        let print = CallKey::print("POST", "r", "/", body.as_bytes());
        CallKey::named(Owner::ANYONE, "k", print)
    }

    fn terms(all: usize) -> Terms {
        Terms {
            join: 10 * SECOND,
            all,
            one: 100,
        }
    }

    fn enter(shares: &Shares, body: &str, joins: bool) -> Place {
        shares.enter(key(body), joins, terms(1 << 20))
    }

    fn first(shares: &Shares, joins: bool) -> Holder {
        match enter(shares, "{}", joins) {
            Place::First(holder) => holder,
            _ => panic!("it is not the first"),
        }
    }

    fn answer(holder: &Holder, status: u16) {
        holder.0.recording.begin(Head {
            status: StatusCode::from_u16(status).unwrap(),
            headers: http::HeaderMap::new(),
        });
    }

    #[tokio::test(start_paused = true)]
    async fn twins_join_a_call_that_runs_or_ended_lately_and_others_do_not() {
        let shares = Shares::default();
        let lead = first(&shares, true);
        assert!(matches!(enter(&shares, "{}", true), Place::Joins(_)));
        assert!(matches!(enter(&shares, "[]", true), Place::Other));
        answer(&lead, 200);
        lead.0.recording.end_as(End::Whole);
        drop(lead);
        tokio::time::advance(9 * SECOND).await;
        shares.sweep(Instant::now());
        assert!(matches!(enter(&shares, "{}", true), Place::Joins(_)));
        tokio::time::advance(SECOND).await;
        assert!(matches!(enter(&shares, "{}", true), Place::First(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_of_its_own_joins_nothing_and_is_joined_by_those_that_follow() {
        let shares = Shares::default();
        let old = first(&shares, false);
        let new = first(&shares, false);
        let Place::Joins(joined) = enter(&shares, "{}", true) else {
            panic!("it joins");
        };
        assert!(Arc::ptr_eq(&joined.0, &new.0));
        assert!(!Arc::ptr_eq(&joined.0, &old.0));
        // The older one's end does not take the newer one's place away.
        shares.forget(&old.0);
        assert!(matches!(enter(&shares, "{}", true), Place::Joins(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_attempt_may_improve_on_is_not_joined() {
        for status in [429, 500, 503, 504] {
            let shares = Shares::default();
            let lead = first(&shares, true);
            answer(&lead, status);
            assert!(matches!(enter(&shares, "{}", true), Place::First(_)));
        }
        let shares = Shares::default();
        let lead = first(&shares, true);
        answer(&lead, 404);
        assert!(matches!(enter(&shares, "{}", true), Place::Joins(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_is_joined_by_nobody_and_one_that_is_wanted_is_not_given_up() {
        let shares = Shares::default();
        let lead = first(&shares, true);
        let Place::Joins(other) = enter(&shares, "{}", true) else {
            panic!("it joins");
        };
        assert!(!lead.0.give_up());
        drop(other);
        assert!(lead.0.is_last() && lead.0.give_up());
        let next = first(&shares, true);
        // A place that was given up is left once more without a harm.
        drop(lead);
        assert!(next.0.is_last());
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_a_call_is_alone_and_what_is_forgotten_makes_room() {
        let shares = Shares::default();
        let Place::First(lead) = shares.enter(key("{}"), true, terms(1_500)) else {
            panic!("it is the first");
        };
        let other = CallKey::named(Owner::ANYONE, "other", [0; 32]);
        assert!(matches!(
            shares.enter(other, true, terms(1_500)),
            Place::Alone
        ));
        lead.0.recording.end_as(End::Broken);
        shares.forget(&lead.0);
        drop(lead);
        assert_eq!(shares.used.load(Ordering::Relaxed), 0);
        assert!(matches!(
            shares.enter(other, true, terms(1_500)),
            Place::First(_)
        ));
    }
}
