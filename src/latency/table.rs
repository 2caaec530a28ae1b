//! Classes by kind, found without a lock.
//!
//! Open addressing in slots that are filled once: at most half of them, so that a search is short.
//! Promises: bounds on classes and models hold but for a race of two threads at the last place;
//! nothing is ever taken out, but a smaller table can take its place.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::class::Class;
use super::kind::Kind;

/// A class that remembers fewer samples makes room: nobody has called it for the better part of an
/// hour.
const FORGOTTEN: f64 = 0.01;

/// Classes by kind: open addressing, at most half full, nothing is ever taken out.
pub(super) struct Table {
    slots: Box<[OnceLock<Arc<Class>>]>,
    taken: AtomicUsize,
    models: AtomicUsize,
    most: usize,
}

impl Table {
    /// Room for so many classes.
    pub fn new(most: usize) -> Self {
        let mut slots = Vec::new();
        slots.resize_with((2 * most).next_power_of_two(), OnceLock::new);
        Self {
            slots: slots.into_boxed_slice(),
            taken: AtomicUsize::new(0),
            models: AtomicUsize::new(0),
            most,
        }
    }

    /// Every class.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Class>> {
        self.slots.iter().filter_map(OnceLock::get)
    }

    /// The slots where a kind may be, the likeliest first.
    fn probe(&self, kind: Kind) -> impl Iterator<Item = &OnceLock<Arc<Class>>> {
        let mask = self.slots.len() - 1;
        let from = usize::try_from(kind.spread()).unwrap_or(0);
        (0..self.slots.len()).map(move |step| &self.slots[(from + step) & mask])
    }

    /// The class of a kind.
    pub fn get(&self, kind: Kind) -> Option<&Arc<Class>> {
        let filled = self.probe(kind).map_while(OnceLock::get);
        filled.into_iter().find(|class| class.kind == kind)
    }

    /// The class of a kind, or the narrowest there is.
    pub fn nearest(&self, kind: Kind) -> Option<&Arc<Class>> {
        let kind = if self.get(kind.of_model()).is_some() {
            kind
        } else {
            kind.of_others()
        };
        let mut kinds = std::iter::successors(Some(kind), |kind| kind.wider());
        kinds.find_map(|kind| self.get(kind))
    }

    /// The class to count a kind in, new where there is room; the wider ones are there before it.
    pub fn class(&self, kind: Kind) -> Option<&Arc<Class>> {
        if let Some(class) = self.get(kind) {
            return Some(class);
        }
        let known = self.get(kind.of_model()).is_some();
        let room = self.models.load(Ordering::Relaxed) < self.most / 4;
        let kind = if known || room {
            kind
        } else {
            kind.of_others()
        };
        let wider: Vec<Kind> = std::iter::successors(Some(kind), |kind| kind.wider()).collect();
        let mut found = None;
        for kind in wider.into_iter().rev() {
            match self
                .get(kind)
                .or_else(|| self.insert(&Arc::new(Class::new(kind))))
            {
                Some(class) => found = Some(class),
                None => break,
            }
        }
        found
    }

    /// Puts a class in, unless it is there or there is no room.
    fn insert(&self, new: &Arc<Class>) -> Option<&Arc<Class>> {
        let kind = new.kind;
        for slot in self.probe(kind) {
            if slot.get().is_none() && self.reserve() {
                if slot.set(new.clone()).is_ok() {
                    if kind.is_model() {
                        self.models.fetch_add(1, Ordering::Relaxed);
                    }
                } else {
                    self.taken.fetch_sub(1, Ordering::Relaxed);
                }
            }
            let class = slot.get()?;
            if class.kind == kind {
                return Some(class);
            }
        }
        None
    }

    fn reserve(&self) -> bool {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        let taken = &self.taken;
        taken
            .try_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// The same table without the classes that are forgotten, if there are any; those that are wider
    /// than one that stays, stay.
    pub fn without_forgotten(&self, narrow_first: &[&Arc<Class>]) -> Option<Self> {
        let mut needed = HashSet::new();
        for class in narrow_first {
            if class.weight() >= FORGOTTEN || needed.contains(&class.kind) {
                needed.insert(class.kind);
                needed.extend(class.kind.wider());
            }
        }
        let stays = |class: &&&Arc<Class>| needed.contains(&class.kind);
        if narrow_first.iter().all(|class| stays(&class)) {
            return None;
        }
        let smaller = Self::new(self.most);
        for class in narrow_first.iter().filter(stays) {
            smaller.insert(class);
        }
        Some(smaller)
    }
}
