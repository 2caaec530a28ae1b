//! What is known of one kind of calls: how likely one ends within a limit.
//!
//! Promises: counting is one relaxed addition, asking one load; nothing is allocated after `new`. What
//! was counted wears off within five minutes, and at once when new samples are hardly of the same
//! distribution (the idea of ADWIN, Bifet and Gavaldà 2007). Some 9 kB.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::coarse::{CELLS, Counts, cell, within};
use super::kind::Kind;
use super::odds::upper_bound;

/// New samples are compared with the older ones by so many.
const BLOCK: f64 = 32.0;

/// A class of calls.
pub(super) struct Class {
    pub kind: Kind,
    /// Since the last tick: seen to their end, and given up.
    ended: [AtomicU32; CELLS],
    given_up: [AtomicU32; CELLS],
    /// P(time ≤ end of cell), its upper bound in 1/65,535.
    bounds: [AtomicU16; CELLS],
    /// Samples remembered, as the bits of an `f32`.
    weight: AtomicU32,
    /// Locked by the tick only.
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    old: Counts,
    /// Not compared yet.
    new: Counts,
}

impl Class {
    /// A class that knows nothing.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            ended: [const { AtomicU32::new(0) }; CELLS],
            given_up: [const { AtomicU32::new(0) }; CELLS],
            bounds: [const { AtomicU16::new(u16::MAX) }; CELLS],
            weight: AtomicU32::new(0),
            memory: Mutex::default(),
        }
    }

    /// A call ended after so long.
    pub fn ended(&self, took: Duration) {
        self.ended[cell(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// A call was given up at this age.
    pub fn given_up(&self, age: Duration) {
        self.given_up[cell(age)].fetch_add(1, Ordering::Relaxed);
    }

    /// At most so likely, with 95% confidence, a call ends within the limit.
    pub fn at_most(&self, limit: Duration) -> f64 {
        let Some(cell) = within(limit) else {
            // So short a limit is not told from none.
            return 1.0;
        };
        f64::from(self.bounds[cell].load(Ordering::Relaxed)) / f64::from(u16::MAX)
    }

    /// Samples remembered as of the last tick.
    pub fn weight(&self) -> f64 {
        f64::from(f32::from_bits(self.weight.load(Ordering::Relaxed)))
    }

    /// Takes what was counted since the last tick into memory, of which this share is kept; gives all
    /// of it.
    pub fn remember(&self, kept: f32) -> Counts {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory { old, new } = &mut *memory;
        old.keep(kept);
        new.keep(kept);
        take(&self.ended, &mut new.ended);
        take(&self.given_up, &mut new.given_up);
        if new.weight() >= BLOCK {
            if new.differs(old) {
                // The new ones may be of both sides of the change: all is forgotten.
                *old = Counts::default();
            } else {
                old.add(new);
            }
            *new = Counts::default();
        }
        let mut all = old.clone();
        all.add(new);
        // A weight needs no more digits than an f32 has.
        #[expect(clippy::cast_possible_truncation)]
        let weight = all.weight() as f32;
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
        all
    }

    /// Answers from these samples from now on.
    pub fn believe(&self, samples: &Counts) {
        for (bound, point) in self.bounds.iter().zip(samples.curve()) {
            let upper = upper_bound(1.0 - point.alive, point.samples);
            // Rounded up, 0 to 65,535.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let told = (upper * f64::from(u16::MAX)).ceil() as u16;
            bound.store(told, Ordering::Relaxed);
        }
    }

    /// Answers as another class does, or knows nothing.
    pub fn defer(&self, to: Option<&Self>) {
        for (at, bound) in self.bounds.iter().enumerate() {
            let told = to.map_or(u16::MAX, |other| other.bounds[at].load(Ordering::Relaxed));
            bound.store(told, Ordering::Relaxed);
        }
    }
}

fn take(fresh: &[AtomicU32; CELLS], to: &mut [f32; CELLS]) {
    for (fresh, count) in fresh.iter().zip(to) {
        if fresh.load(Ordering::Relaxed) > 0 {
            // A second brings fewer samples to a cell than an f32 counts.
            #[expect(clippy::cast_precision_loss)]
            let new = fresh.swap(0, Ordering::Relaxed) as f32;
            *count += new;
        }
    }
}
