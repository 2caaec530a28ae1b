//! Which queued jobs of a route are taken next, as `sqlite::order` does it, one at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use super::rows::Row;
use crate::cold::job::UnixMillis;
use crate::cold::priority::Priority;
use crate::cold::shares::Shares;

type Caller = [u8; 32];
type Rank = (Reverse<Priority>, UnixMillis, u64);

/// The queued jobs of a route.
#[derive(Clone, Default)]
pub struct Queue {
    ready: BTreeMap<Caller, BTreeSet<Rank>>,
    later: BTreeMap<(UnixMillis, u64), (Caller, Rank)>,
    turn: Caller,
    /// Jobs that are left of that turn.
    left: usize,
}

fn place(row: &Row, at: u64) -> (Caller, Rank) {
    let job = &row.job;
    (job.owner.0, (Reverse(job.priority), job.expires_at, at))
}

impl Queue {
    /// Puts a job in.
    pub fn insert(&mut self, row: &Row, at: u64) {
        self.later.insert((row.due, at), place(row, at));
    }

    /// Takes a job out, if it is there.
    pub fn remove(&mut self, row: &Row, at: u64) {
        self.later.remove(&(row.due, at));
        let (caller, rank) = place(row, at);
        if let Some(jobs) = self.ready.get_mut(&caller) {
            jobs.remove(&rank);
            if jobs.is_empty() {
                self.ready.remove(&caller);
            }
        }
    }

    /// Whether there is anything to take.
    pub fn has_due(&self, now: UnixMillis) -> bool {
        let first = self.later.first_key_value();
        !self.ready.is_empty() || first.is_some_and(|((due, _), _)| *due <= now)
    }

    /// Takes out up to so many that are due, callers in turn, by their shares.
    pub fn take(&mut self, limit: usize, now: UnixMillis, shares: &Shares) -> Vec<u64> {
        while let Some(entry) = self.later.first_entry().filter(|one| one.key().0 <= now) {
            let (caller, rank) = entry.remove();
            self.ready.entry(caller).or_default().insert(rank);
        }
        let mut taken = Vec::new();
        while taken.len() < limit {
            if self.left == 0 || !self.ready.contains_key(&self.turn) {
                let after = self.ready.range((Excluded(self.turn), Unbounded)).next();
                let Some((&caller, _)) = after.or_else(|| self.ready.iter().next()) else {
                    break;
                };
                (self.turn, self.left) = (caller, shares.of(&caller));
            }
            let caller = self.turn;
            self.left -= 1;
            let jobs = self.ready.entry(caller).or_default();
            taken.extend(jobs.pop_first().map(|(_, _, at)| at));
            if jobs.is_empty() {
                self.ready.remove(&caller);
            }
        }
        taken
    }
}
