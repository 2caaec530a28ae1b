//! Whose turn it is at a route's jobs, by the callers' shares.
//!
//! Weighted round robin (Katevenis, Sidiropoulos and Courcoubetis, IEEE JSAC 1991): a caller with a
//! share of 3 has three jobs taken in its turn where another has one. Promises: a turn goes on in the
//! next claim where one ended in the middle of it; who has no job loses the rest of its turn. Whose
//! turn it is outlives a claim, not the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::job::Owner;

/// The shares of callers; 1 of those that are not named.
#[derive(Clone, Debug, Default)]
pub struct Shares(HashMap<Owner, u32>);

impl FromIterator<(Owner, u32)> for Shares {
    fn from_iter<I: IntoIterator<Item = (Owner, u32)>>(all: I) -> Self {
        Self(all.into_iter().filter(|(_, share)| *share > 1).collect())
    }
}

impl Shares {
    /// A caller's share: at least 1.
    pub fn of(&self, caller: &[u8]) -> usize {
        let owner = caller.try_into().map(Owner).ok();
        let share = owner.and_then(|owner| self.0.get(&owner));
        share.map_or(1, |share| *share as usize)
    }
}

/// The last turn at a route: whose it was, and how many jobs of it are left.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// The caller.
    pub caller: Vec<u8>,
    left: usize,
}

/// How many jobs of which callers to take, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Callers, with at least one job each.
    pub parts: Vec<(Vec<u8>, usize)>,
    /// What is left of the last one's turn.
    over: usize,
}

impl Turn {
    /// The rest of it, if it was not over; of at most so many jobs.
    pub fn rest(&self, jobs: usize) -> Option<Round> {
        let part = self.left.min(jobs);
        (part > 0).then(|| Round {
            parts: vec![(self.caller.clone(), part)],
            over: self.left - part,
        })
    }
}

/// Whose turn it is at each route.
#[derive(Debug, Default)]
pub struct Turns {
    last: Mutex<HashMap<String, Turn>>,
    shares: ArcSwap<Shares>,
}

impl Turns {
    /// These are the shares from now on.
    pub fn share_out(&self, shares: Shares) {
        self.shares.store(Arc::new(shares));
    }

    fn last(&self) -> MutexGuard<'_, HashMap<String, Turn>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last turn at a route.
    pub fn of(&self, route: &str) -> Turn {
        self.last().get(route).cloned().unwrap_or_default()
    }

    /// A round over these callers, each once, of at most so many jobs: as many times each one's share
    /// as there is room for.
    pub fn round(&self, callers: Vec<Vec<u8>>, jobs: usize) -> Round {
        let shares = self.shares.load();
        let all: usize = callers.iter().map(|caller| shares.of(caller)).sum();
        let times = (jobs / all.max(1)).max(1);
        let mut round = Round::default();
        let mut left = jobs;
        for caller in callers {
            if left == 0 {
                break;
            }
            let due = shares.of(&caller) * times;
            let part = due.min(left);
            left -= part;
            round.over = due - part;
            round.parts.push((caller, part));
        }
        round
    }

    /// A round was taken and gave so many jobs.
    pub fn was(&self, route: &str, mut round: Round, jobs: usize) {
        let asked: usize = round.parts.iter().map(|(_, part)| part).sum();
        // Whoever had fewer jobs has none left: it may be the last one.
        let left = if jobs < asked { 0 } else { round.over };
        if let Some((caller, _)) = round.parts.pop() {
            self.last().insert(route.to_owned(), Turn { caller, left });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns() -> Turns {
        let turns = Turns::default();
        turns.share_out(Shares::from_iter([(Owner([2; 32]), 3)]));
        turns
    }

    fn callers(all: &[u8]) -> Vec<Vec<u8>> {
        all.iter().map(|caller| vec![*caller; 32]).collect()
    }

    #[test]
    fn a_round_is_as_many_times_each_share_as_there_is_room_for() {
        let parts = |jobs: usize| {
            let round = turns().round(callers(&[1, 2, 3]), jobs);
            let part = |(caller, part): &(Vec<u8>, usize)| (caller[0], *part);
            (round.parts.iter().map(part).collect::<Vec<_>>(), round.over)
        };
        assert_eq!(parts(5), (vec![(1, 1), (2, 3), (3, 1)], 0));
        assert_eq!(parts(13), (vec![(1, 2), (2, 6), (3, 2)], 0));
        assert_eq!(parts(1), (vec![(1, 1)], 0));
        assert_eq!(parts(3), (vec![(1, 1), (2, 2)], 1));
        assert_eq!(turns().round(Vec::new(), 9), Round::default());
    }

    #[test]
    fn a_turn_goes_on_in_the_next_claim_unless_its_caller_has_nothing() {
        let turns = turns();
        turns.was("chat", turns.round(callers(&[2]), 1), 1);
        let rest = turns.of("chat").rest(1).expect("two are left");
        turns.was("chat", rest, 1);
        let rest = turns.of("chat").rest(9).expect("one is left");
        assert_eq!(rest.parts, [(vec![2; 32], 1)]);
        turns.was("chat", rest, 1);
        assert_eq!(turns.of("chat").rest(9), None);
        turns.was("chat", turns.round(callers(&[2]), 1), 0);
        assert_eq!(turns.of("chat").rest(9), None);
        assert_eq!(turns.of("other").rest(9), None);
    }
}
