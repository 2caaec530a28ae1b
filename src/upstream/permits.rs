//! Places at a target: at most so many calls at once, and a bounded wait for the others.
//!
//! Promises: a permit frees its place when it is dropped, whatever became of the call; taking one
//! is a compare-and-swap and a target without a limit has no permits at all. The list of those who
//! wait is the one lock that workers share: it is taken only where the target is full, held for the
//! push or pop of one entry, and never while anybody is woken; a lock-free list could not take out
//! a caller that left. Never waits for a call that would be too late: it says so at once.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

pub use super::waiting::Claimant;
use super::waiting::{Ticket, WaitingRoom};
use crate::config::{Concurrency, ConcurrencyMode};
use crate::latency::Limit;

/// What one more call weighs in the average of their lengths.
const WEIGHT: f64 = 0.1;

#[derive(Debug)]
enum Rule {
    Fixed(u32),
    Adaptive(Limit),
}

/// The places at one target.
#[derive(Debug)]
pub struct Permits {
    rule: Rule,
    queue: usize,
    origin: Instant,
    taken: AtomicU32,
    /// How long a place is held on average: seconds, as the bits of an `f64`; zero: unknown.
    held: AtomicU64,
    /// As many as wait in the room, to look without its lock.
    waiting: AtomicUsize,
    room: Mutex<WaitingRoom<oneshot::Sender<Permit>>>,
}

impl Permits {
    /// The places at a target; `None`: without a limit.
    pub fn new(settings: &Concurrency) -> Option<Arc<Self>> {
        let rule = match settings.mode {
            ConcurrencyMode::Off => return None,
            ConcurrencyMode::Fixed => Rule::Fixed(settings.limit),
            ConcurrencyMode::Adaptive => {
                Rule::Adaptive(Limit::new(settings.limit, settings.min, settings.max))
            }
        };
        Some(Arc::new(Self {
            rule,
            queue: settings.queue,
            origin: Instant::now(),
            taken: AtomicU32::new(0),
            held: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            room: Mutex::default(),
        }))
    }

    /// Places in all.
    pub fn limit(&self) -> u32 {
        match &self.rule {
            Rule::Fixed(limit) => *limit,
            Rule::Adaptive(limit) => limit.get(),
        }
    }

    /// Places taken.
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Calls that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Places that jobs may take: none while a caller waits.
    pub fn spare(&self) -> usize {
        let free = self.limit().saturating_sub(self.taken()) as usize;
        if self.waiting() > 0 { 0 } else { free }
    }

    /// How long one more call would wait, as far as the average tells.
    pub fn expected_wait(&self) -> Duration {
        self.wait_behind(self.waiting())
    }

    fn wait_behind(&self, ahead: usize) -> Duration {
        let places = f64::from(self.limit().max(1));
        self.held().mul_f64((ahead + 1) as f64 / places)
    }

    fn held(&self) -> Duration {
        Duration::from_secs_f64(f64::from_bits(self.held.load(Ordering::Relaxed)))
    }

    /// A place, if one is free.
    pub fn take(self: &Arc<Self>, now: Instant) -> Option<Permit> {
        self.try_take().then(|| self.permit(now))
    }

    /// Waits for a place among others, by its caller's share. `left`: time until the call's deadline.
    ///
    /// # Errors
    /// The queue is full, or the wait too long: how long it would be.
    pub fn wait(
        self: &Arc<Self>,
        claimant: Claimant,
        left: Option<Duration>,
        now: Instant,
    ) -> Result<Waiting, Duration> {
        let (sender, served) = oneshot::channel();
        let mut room = self.room();
        let expected = self.wait_behind(room.ahead(claimant));
        if !room.has_room(claimant, self.queue) || left.is_some_and(|left| expected > left) {
            return Err(expected);
        }
        let ticket = room.push(claimant, sender, now);
        self.waiting.store(room.len(), Ordering::SeqCst);
        drop(room);
        // A place may have become free before anybody could know that one waits.
        self.serve(now);
        Ok(Waiting {
            permits: self.clone(),
            ticket,
            served,
            done: false,
        })
    }

    fn try_take(&self) -> bool {
        let limit = self.limit();
        self.taken
            .try_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
                (taken < limit).then_some(taken + 1)
            })
            .is_ok()
    }

    fn permit(self: &Arc<Self>, now: Instant) -> Permit {
        Permit {
            place: Some((self.clone(), now)),
            unmeasured: false,
        }
    }

    fn leave(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives free places to those who wait.
    fn serve(self: &Arc<Self>, now: Instant) {
        while self.waiting.load(Ordering::SeqCst) > 0 && self.try_take() {
            let next = {
                let mut room = self.room();
                let next = room.pop(self.held(), now);
                self.waiting.store(room.len(), Ordering::SeqCst);
                next
            };
            let Some(next) = next else {
                self.leave();
                continue;
            };
            if let Err(mut unused) = next.send(self.permit(now)) {
                // Its caller left in this moment: the place goes to another.
                unused.place = None;
                self.leave();
            }
        }
    }

    fn free(self: &Arc<Self>, since: Instant, measured: bool) {
        let now = Instant::now();
        // What tells nothing of how soon a place is free tells yet of one that is held long.
        let (took, before) = ((now - since).as_secs_f64(), self.held().as_secs_f64());
        if measured || took > before {
            let average = if before > 0.0 {
                before + (took - before) * WEIGHT
            } else {
                took
            };
            self.held.store(average.to_bits(), Ordering::Relaxed);
        }
        self.leave();
        self.serve(now);
    }

    fn room(&self) -> MutexGuard<'_, WaitingRoom<oneshot::Sender<Permit>>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place at a target, or leave to call one that has no limit.
#[derive(Debug, Default)]
pub struct Permit {
    place: Option<(Arc<Permits>, Instant)>,
    /// How long it was held tells nothing of others.
    unmeasured: bool,
}

impl Permit {
    /// The call that holds it had its first content after so long.
    pub fn saw(&self, took: Duration, now: Instant) {
        if let Some((permits, _)) = &self.place
            && let Rule::Adaptive(limit) = &permits.rule
        {
            limit.saw(took, permits.taken(), now - permits.origin);
        }
    }

    /// The call that holds it failed: a place is not free sooner for that.
    pub fn is_no_measure(&mut self) {
        self.unmeasured = true;
    }

    /// The call that holds it was given up at this age.
    pub fn at_least(&self, age: Duration, now: Instant) {
        if let Some((permits, _)) = &self.place
            && let Rule::Adaptive(limit) = &permits.rule
        {
            limit.at_least(age, permits.taken(), now - permits.origin);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((permits, since)) = self.place.take() {
            permits.free(since, !self.unmeasured);
        }
    }
}

/// A call that waits for a place; dropping it leaves the queue.
#[derive(Debug)]
pub struct Waiting {
    permits: Arc<Permits>,
    ticket: Ticket,
    served: oneshot::Receiver<Permit>,
    done: bool,
}

impl Waiting {
    /// How long one more call would wait.
    pub fn expected(&self) -> Duration {
        self.permits.expected_wait()
    }
}

impl Future for Waiting {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        Pin::new(&mut self.served).poll(context).map(|served| {
            self.done = true;
            served.expect("who waits is in the room until it is served")
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.done {
            let mut room = self.permits.room();
            room.remove(self.ticket);
            self.permits.waiting.store(room.len(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests;
