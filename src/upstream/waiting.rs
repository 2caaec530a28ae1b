//! Calls that wait for a place at a target: bounded, and newest first under overload.
//!
//! Adaptive LIFO (Maurer, Fail at Scale, ACM Queue 2015): in a queue that stands, the oldest calls
//! are those whose callers will leave first, so who comes last is served first; a queue that empties
//! within the time of one call is a burst, and served in order. Pure: its clock is passed in. Never
//! drops a call by itself: each leaves at its own deadline.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A queue that stands for less is a burst, however short calls are.
const BURST: Duration = Duration::from_millis(100);

/// Names one that waits, within its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Those who wait.
#[derive(Debug)]
pub struct WaitingRoom<T> {
    all: VecDeque<(Ticket, T)>,
    next: u64,
    /// Since when it was never empty.
    stands_since: Option<Instant>,
}

impl<T> Default for WaitingRoom<T> {
    fn default() -> Self {
        Self {
            all: VecDeque::new(),
            next: 0,
            stands_since: None,
        }
    }
}

impl<T> WaitingRoom<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// One more waits.
    pub fn push(&mut self, one: T, now: Instant) -> Ticket {
        self.stands_since.get_or_insert(now);
        let ticket = Ticket(self.next);
        self.next += 1;
        self.all.push_back((ticket, one));
        ticket
    }

    /// Who is served next; a queue that stands longer than `call` takes is served newest first.
    pub fn pop(&mut self, call: Duration, now: Instant) -> Option<T> {
        let stands = self.stands_since.map(|since| now - since);
        let overload = stands.is_some_and(|stands| stands > call.max(BURST));
        let served = if overload {
            self.all.pop_back()
        } else {
            self.all.pop_front()
        };
        self.settle();
        served.map(|(_, one)| one)
    }

    /// Who was served already, or left, is not there any more.
    pub fn remove(&mut self, ticket: Ticket) {
        self.all.retain(|(one, _)| *one != ticket);
        self.settle();
    }

    fn settle(&mut self) {
        if self.all.is_empty() {
            self.stands_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_served_in_order_and_a_standing_queue_newest_first() {
        let mut room = WaitingRoom::default();
        let now = Instant::now();
        for one in 0..6 {
            room.push(one, now);
        }
        assert_eq!(room.pop(CALL, now), Some(0));
        let later = now + CALL + Duration::from_millis(1);
        assert_eq!(room.pop(CALL, later), Some(5));
        assert_eq!(room.pop(CALL, later), Some(4));
        while room.pop(CALL, later).is_some() {}
        // It was empty: what comes now is a burst again.
        room.push(6, later);
        room.push(7, later);
        assert_eq!(room.pop(CALL, later), Some(6));
    }

    #[tokio::test(start_paused = true)]
    async fn who_left_is_not_served() {
        let mut room = WaitingRoom::default();
        let now = Instant::now();
        let first = room.push(1, now);
        room.push(2, now);
        room.remove(first);
        assert_eq!((room.pop(CALL, now), room.len()), (Some(2), 0));
        room.remove(first);
        assert_eq!(room.pop(CALL, now), None);
    }
}
