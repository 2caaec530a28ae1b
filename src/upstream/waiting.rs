//! Calls that wait for a place at a target: bounded, shared out among callers, and newest first
//! under overload.
//!
//! Callers are served by their shares (start-time fair queueing; Goyal, Vin and Cheng, SIGCOMM 1996):
//! who has a share of 3 gets three places where another gets one, and who waits alone gets all. Of one
//! caller's calls adaptive LIFO (Maurer, Fail at Scale, ACM Queue 2015) picks: in a queue that stands,
//! the oldest calls are those whose callers will leave first, so who comes last is served first; a
//! queue that empties within the time of one call is a burst, and served in order. Pure: its clock is
//! passed in. Never drops a call by itself: each leaves at its own deadline.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A queue that stands for less is a burst, however short calls are.
const BURST: Duration = Duration::from_millis(100);

/// What one place costs a caller with a share of 1, in virtual time.
const COST: u64 = 1 << 20;

/// Names one that waits, within its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Who waits, and its share. Without keys all callers are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Whose calls count together.
    pub id: u64,
    /// Places it gets where another gets one; at least 1.
    pub share: u32,
}

impl Default for Claimant {
    fn default() -> Self {
        Self { id: 0, share: 1 }
    }
}

/// One caller's calls, and the virtual time at which its next is due.
#[derive(Debug)]
struct Line<T> {
    of: Claimant,
    due: u64,
    calls: VecDeque<(Ticket, T)>,
}

/// Those who wait.
#[derive(Debug)]
pub struct WaitingRoom<T> {
    /// Of those who wait, and of those who were served so lately that they are not due again.
    lines: Vec<Line<T>>,
    len: usize,
    next: u64,
    /// Virtual time: when the call was due that was served last.
    now: u64,
    /// Since when it was never empty.
    stands_since: Option<Instant>,
}

impl<T> Default for WaitingRoom<T> {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            len: 0,
            next: 0,
            now: 0,
            stands_since: None,
        }
    }
}

impl<T> WaitingRoom<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    fn own(&self, claimant: Claimant) -> usize {
        let line = self.lines.iter().find(|line| line.of.id == claimant.id);
        line.map_or(0, |line| line.calls.len())
    }

    /// The shares of those who wait, and of this one.
    fn shares(&self, claimant: Claimant) -> u64 {
        let others = self.lines.iter();
        let others = others.filter(|line| !line.calls.is_empty() && line.of.id != claimant.id);
        let shares = others.map(|line| u64::from(line.of.share));
        shares.sum::<u64>() + u64::from(claimant.share)
    }

    /// Whether one more of this caller's may wait where `most` may: one that has less than its share
    /// of them may always, so that nobody fills the room for all. That makes twice as many at most.
    pub fn has_room(&self, claimant: Claimant, most: usize) -> bool {
        if self.len < most {
            return true;
        }
        let (own, share) = (self.own(claimant) as u64, u64::from(claimant.share));
        own * self.shares(claimant) < most as u64 * share && self.len < 2 * most
    }

    /// How many are served before one more of this caller's, if nobody else comes.
    pub fn ahead(&self, claimant: Claimant) -> usize {
        let turns = (self.own(claimant) as u64 + 1) * self.shares(claimant);
        let turns = turns.div_ceil(u64::from(claimant.share.max(1))) - 1;
        self.len.min(usize::try_from(turns).unwrap_or(usize::MAX))
    }

    /// One more waits.
    pub fn push(&mut self, claimant: Claimant, one: T, now: Instant) -> Ticket {
        self.stands_since.get_or_insert(now);
        let ticket = Ticket(self.next);
        self.next += 1;
        self.len += 1;
        let known = self.lines.iter_mut().find(|line| line.of.id == claimant.id);
        if let Some(line) = known {
            if line.calls.is_empty() {
                line.due = line.due.max(self.now);
            }
            line.of = claimant;
            line.calls.push_back((ticket, one));
        } else {
            self.lines.push(Line {
                of: claimant,
                due: self.now,
                calls: VecDeque::from([(ticket, one)]),
            });
        }
        ticket
    }

    /// Who is served next; a queue that stands longer than `call` takes is served newest first.
    pub fn pop(&mut self, call: Duration, now: Instant) -> Option<T> {
        let stands = self.stands_since.map(|since| now - since);
        let overload = stands.is_some_and(|stands| stands > call.max(BURST));
        let waiting = self.lines.iter_mut().filter(|line| !line.calls.is_empty());
        let line = waiting.min_by_key(|line| line.due)?;
        self.now = line.due;
        line.due += COST / u64::from(line.of.share.max(1));
        let served = if overload {
            line.calls.pop_back()
        } else {
            line.calls.pop_front()
        };
        self.left();
        served.map(|(_, one)| one)
    }

    /// Who was served already, or left, is not there any more.
    pub fn remove(&mut self, ticket: Ticket) {
        for line in &mut self.lines {
            if let Some(at) = line.calls.iter().position(|(one, _)| *one == ticket) {
                line.calls.remove(at);
                self.left();
                return;
            }
        }
    }

    fn left(&mut self) {
        self.len -= 1;
        if self.len == 0 {
            *self = Self {
                next: self.next,
                ..Self::default()
            };
        }
        let now = self.now;
        self.lines
            .retain(|line| !line.calls.is_empty() || line.due > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const CALL: Duration = Duration::from_secs(1);
    const ALL: Claimant = Claimant { id: 0, share: 1 };
    const BIG: Claimant = Claimant { id: 1, share: 3 };
    const SMALL: Claimant = Claimant { id: 2, share: 1 };

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_served_in_order_and_a_standing_queue_newest_first() {
        let mut room = WaitingRoom::default();
        let now = Instant::now();
        for one in 0..6 {
            room.push(ALL, one, now);
        }
        assert_eq!(room.pop(CALL, now), Some(0));
        let later = now + CALL + Duration::from_millis(1);
        assert_eq!(room.pop(CALL, later), Some(5));
        assert_eq!(room.pop(CALL, later), Some(4));
        while room.pop(CALL, later).is_some() {}
        // It was empty: what comes now is a burst again.
        room.push(ALL, 6, later);
        room.push(ALL, 7, later);
        assert_eq!(room.pop(CALL, later), Some(6));
    }

    #[tokio::test(start_paused = true)]
    async fn who_left_is_not_served() {
        let mut room = WaitingRoom::default();
        let now = Instant::now();
        let first = room.push(ALL, 1, now);
        room.push(ALL, 2, now);
        room.remove(first);
        assert_eq!((room.pop(CALL, now), room.len()), (Some(2), 0));
        room.remove(first);
        assert_eq!(room.pop(CALL, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_get_places_by_their_shares_also_one_that_waits_with_a_single_call() {
        let mut room = WaitingRoom::default();
        let now = Instant::now();
        for _ in 0..100 {
            room.push(BIG, BIG.id, now);
        }
        room.push(SMALL, SMALL.id, now);
        let mut small = 0;
        for _ in 0..40 {
            if room.pop(CALL, now) == Some(SMALL.id) {
                small += 1;
                room.push(SMALL, SMALL.id, now);
            }
        }
        assert_eq!(small, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_fills_the_room_keeps_nobody_else_out_and_knows_its_wait() {
        let mut room = WaitingRoom::default();
        let now = Instant::now();
        while room.has_room(BIG, 8) {
            room.push(BIG, 1, now);
        }
        assert_eq!((room.len(), room.ahead(BIG)), (8, 8));
        // Of four places one is its own.
        assert_eq!(room.ahead(SMALL), 3);
        while room.has_room(SMALL, 8) {
            room.push(SMALL, 2, now);
        }
        assert_eq!(room.len(), 10);
        assert!(!room.has_room(BIG, 8));
    }

    proptest! {
        /// Whoever waits all the time gets what is due to its share, within one place for each other.
        #[test]
        fn each_gets_its_share_whatever_the_others_do(
            shares in prop::collection::vec(1u32..10, 2..6),
            gaps in prop::collection::vec(0usize..6, 300),
        ) {
            let now = Instant::now();
            let mut room = WaitingRoom::default();
            let claimant = |at: usize| Claimant { id: at as u64, share: shares[at] };
            for _ in 0..gaps.len() {
                room.push(claimant(0), 0, now);
            }
            let (mut own, mut all) = (0u64, 0u64);
            for gap in &gaps {
                let other = 1 + gap % (shares.len() - 1);
                if *gap > 0 {
                    room.push(claimant(other), other, now);
                }
                own += u64::from(room.pop(CALL, now) == Some(0));
                all += 1;
            }
            let total: u64 = shares.iter().map(|share| u64::from(*share)).sum();
            let due = all * u64::from(shares[0]) / total;
            prop_assert!(own + shares.len() as u64 * u64::from(shares[0]) >= due, "{own} of {due}");
        }
    }
}
