//! The attempts of one call, running side by side.
//!
//! Promises: dropping the set cancels them all. Whoever owns it decides: the race while a caller
//! waits, the job afterwards.

use std::sync::Arc;
use std::task::{Context, Poll};

use smallvec::SmallVec;

use super::attempt::{Attempt, Hold, Verdict};
use super::target::Target;
use crate::meter::Use;

/// An attempt, and whether it was started beside a running one.
pub struct Entry {
    /// The attempt.
    pub attempt: Box<Attempt>,
    /// It is a hedge.
    pub hedge: bool,
    /// How many were made before it.
    pub number: u16,
}

/// Attempts of one call.
#[derive(Default)]
pub struct Attempts {
    running: SmallVec<[Entry; 2]>,
    tried: SmallVec<[Arc<Target>; 2]>,
}

impl Attempts {
    /// Adds one.
    pub fn push(&mut self, attempt: Box<Attempt>, hedge: bool) {
        let number = u16::try_from(self.tried.len()).unwrap_or(u16::MAX);
        self.tried.push(attempt.target().clone());
        self.running.push(Entry {
            attempt,
            hedge,
            number,
        });
    }

    /// Attempts running.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Attempts made.
    pub fn made(&self) -> usize {
        self.tried.len()
    }

    /// The targets of those that run.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.running.iter().map(|entry| entry.attempt.target())
    }

    /// The targets of all attempts made.
    pub fn tried(&self) -> &[Arc<Target>] {
        &self.tried
    }

    /// Drives all until one can be judged; that one is taken out of the set.
    pub fn poll(&mut self, context: &mut Context<'_>, hold: Hold) -> Poll<(Entry, Verdict)> {
        for at in 0..self.running.len() {
            let verdict = self.running[at].attempt.poll_verdict(context, hold);
            if let Poll::Ready(verdict) = verdict {
                return Poll::Ready((self.running.swap_remove(at), verdict));
            }
        }
        Poll::Pending
    }

    /// Puts back one that was refused and that no other will improve on.
    pub fn put_back(&mut self, refused: Entry) {
        let hedge = false;
        self.running.push(Entry { hedge, ..refused });
    }

    /// Those that run, each for itself.
    pub fn into_running(self) -> impl Iterator<Item = Box<Attempt>> {
        self.running.into_iter().map(|entry| entry.attempt)
    }

    /// Says what the tokens of all that run count as.
    pub fn used_for(&mut self, used: Use) {
        for entry in &mut self.running {
            entry.attempt.used_for(used);
        }
    }

    /// How many hedges run.
    pub fn hedges(&self) -> usize {
        self.running.iter().filter(|entry| entry.hedge).count()
    }

    /// Cancels all that run: they lost. Gives how many of them were hedges.
    pub fn cancel_losers(&mut self) -> usize {
        self.used_for(Use::HedgeLost);
        let hedges = self.hedges();
        self.running.clear();
        hedges
    }
}
