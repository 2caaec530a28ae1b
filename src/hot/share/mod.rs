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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::follow::Followed;
pub(super) use self::follow::{follow, mark_joined};
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
    all: papaya::HashMap<[u8; 32], Arc<Share>>,
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
            if let Some(share) = found {
                if let Some(holder) = share.join(Instant::now()) {
                    return if share.key.print == key.print {
                        Place::Joins(holder)
                    } else {
                        Place::Other
                    };
                }
                self.forget(share);
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
                join: terms.join,
            });
            let holder = Holder(share.clone());
            if !joins {
                all.insert(key.name, share);
                return Place::First(holder);
            }
            if all.try_insert(key.name, share).is_ok() {
                return Place::First(holder);
            }
        }
    }

    /// Nobody joins it any more.
    fn forget(&self, share: &Arc<Share>) {
        let same = |_: &[u8; 32], other: &Arc<Share>| Arc::ptr_eq(other, share);
        let _ = self.all.pin().remove_if(&share.key.name, same);
    }

    /// Forgets what is no longer joined; meant for once a second.
    pub fn sweep(&self, now: Instant) {
        self.all.pin().retain(|_, share| match share.ended() {
            Some(at) => now < at + share.join,
            None => true,
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

    fn ended(&self) -> Option<Instant> {
        self.recording.end().map(|(_, at)| at)
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

impl Drop for Holder {
    fn drop(&mut self) {
        let fewer = |holders: usize| holders.checked_sub(1);
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let _ = self.0.holders.fetch_update(order.0, order.1, fewer);
        self.0.left.notify_waiters();
    }
}
