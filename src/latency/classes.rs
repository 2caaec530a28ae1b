//! Every class of one route's calls: how likely a call like this one ends within a limit.
//!
//! Promises: counting and asking take no lock and do not allocate but for a new class; classes and
//! models are bounded, and what nobody calls any more makes room. A class with few samples answers as
//! its next wider one, which is made of all such classes below it and not of those that are known by
//! themselves (back-off, Katz 1987): a thousand reports tell nothing of the first short answer.
//! Never reads a clock: `tick` is told the time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::class::Class;
use super::coarse::Counts;
use super::kind::Kind;

/// What is left of a sample after this is 1/e: a steady class remembers as many samples as five
/// minutes bring.
const MEMORY: Duration = Duration::from_mins(5);

/// A class that remembers fewer samples makes room: nobody has called it for the better part of an
/// hour.
const FORGOTTEN: f64 = 0.01;

/// The classes of a route.
pub struct Classes {
    table: ArcSwap<Table>,
    min_samples: f64,
    /// Locked by the tick only.
    ticked: Mutex<Duration>,
}

impl Classes {
    /// No classes yet, and at most so many (at least 8), the wider ones among them; one with fewer
    /// samples than `min_samples` is not believed.
    pub fn new(classes: usize, min_samples: u32) -> Self {
        Self {
            table: ArcSwap::from_pointee(Table::new(classes.max(8))),
            min_samples: f64::from(min_samples),
            ticked: Mutex::default(),
        }
    }

    /// A call ended after so long.
    pub fn ended(&self, kind: Kind, took: Duration) {
        if let Some(class) = self.table.load().class(kind) {
            class.ended(took);
        }
    }

    /// A call was given up at this age.
    pub fn given_up(&self, kind: Kind, age: Duration) {
        if let Some(class) = self.table.load().class(kind) {
            class.given_up(age);
        }
    }

    /// At most so likely, with 95% confidence, such a call ends within the limit; 1 where nothing is
    /// known.
    pub fn at_most(&self, kind: Kind, limit: Duration) -> f64 {
        let table = self.table.load();
        table
            .nearest(kind)
            .map_or(1.0, |class| class.at_most(limit))
    }

    /// Of the samples remembered of streams, or of other calls: how many, and how many are of classes
    /// whose calls at most so likely end within the limit.
    pub fn below(&self, streamed: bool, limit: Duration, floor: f64) -> (f64, f64) {
        let table = self.table.load();
        let ours = table.all().filter(|one| one.kind.is_streamed() == streamed);
        ours.fold((0.0, 0.0), |(all, below), class| {
            let weight = class.weight();
            let under = if class.at_most(limit) < floor {
                weight
            } else {
                0.0
            };
            (all + weight, below + under)
        })
    }

    /// Learns what was counted; meant for once a second. `now` counts from any fixed moment.
    pub fn tick(&self, now: Duration) {
        let mut ticked = self.ticked.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_sub(std::mem::replace(&mut *ticked, now));
        let kept = (-since.as_secs_f32() / MEMORY.as_secs_f32()).exp();
        let table = self.table.load();
        let mut classes: Vec<&Arc<Class>> = table.all().collect();
        classes.sort_by_key(|class| class.kind.width());
        let mut pools: HashMap<Kind, Counts> = HashMap::new();
        let mut unknown = Vec::new();
        for class in &classes {
            let mut all = class.remember(kept);
            if let Some(pool) = pools.remove(&class.kind) {
                all.add(&pool);
            }
            if all.weight() >= self.min_samples {
                class.believe(&all);
                continue;
            }
            unknown.push(*class);
            if let Some(wider) = class.kind.wider() {
                pools.entry(wider).or_default().add(&all);
            }
        }
        // The widest first: it may itself answer as a wider one.
        for class in unknown.iter().rev() {
            let wider = class.kind.wider().and_then(|wider| table.get(wider));
            class.defer(wider.map(AsRef::as_ref));
        }
        if let Some(smaller) = table.without_forgotten(&classes) {
            self.table.store(Arc::new(smaller));
        }
    }
}

/// Classes by kind: open addressing, at most half full, nothing is ever taken out.
struct Table {
    slots: Box<[OnceLock<Arc<Class>>]>,
    taken: AtomicUsize,
    models: AtomicUsize,
    most: usize,
}

impl Table {
    fn new(most: usize) -> Self {
        let mut slots = Vec::new();
        slots.resize_with((2 * most).next_power_of_two(), OnceLock::new);
        Self {
            slots: slots.into_boxed_slice(),
            taken: AtomicUsize::new(0),
            models: AtomicUsize::new(0),
            most,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Class>> {
        self.slots.iter().filter_map(OnceLock::get)
    }

    /// The slots where a kind may be, the likeliest first.
    fn probe(&self, kind: Kind) -> impl Iterator<Item = &OnceLock<Arc<Class>>> {
        let mask = self.slots.len() - 1;
        let from = usize::try_from(kind.spread()).unwrap_or(0);
        (0..self.slots.len()).map(move |step| &self.slots[(from + step) & mask])
    }

    fn get(&self, kind: Kind) -> Option<&Arc<Class>> {
        let filled = self.probe(kind).map_while(OnceLock::get);
        filled.into_iter().find(|class| class.kind == kind)
    }

    /// The class of a kind, or the narrowest there is.
    fn nearest(&self, kind: Kind) -> Option<&Arc<Class>> {
        let kind = if self.get(kind.of_model()).is_some() {
            kind
        } else {
            kind.of_others()
        };
        let mut kinds = std::iter::successors(Some(kind), |kind| kind.wider());
        kinds.find_map(|kind| self.get(kind))
    }

    /// The class to count a kind in, new where there is room; the wider ones are there before it.
    fn class(&self, kind: Kind) -> Option<&Arc<Class>> {
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
    fn without_forgotten(&self, narrow_first: &[&Arc<Class>]) -> Option<Self> {
        let mut needed = std::collections::HashSet::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(10);

    fn report() -> Kind {
        Kind::new(false, Some("large"), Some(4_096), 2_000)
    }

    fn label() -> Kind {
        Kind::new(false, Some("large"), Some(16), 2_000)
    }

    /// Classes that are ticked by hand.
    struct Learning {
        classes: Classes,
        second: u32,
    }

    impl Learning {
        fn new() -> Self {
            Self {
                classes: Classes::new(64, 100),
                second: 0,
            }
        }

        /// Each second so many calls of these times, for so many seconds.
        fn see(&mut self, kind: Kind, times: &[Duration], seconds: u32) {
            for _ in 0..seconds {
                for took in times {
                    self.classes.ended(kind, *took);
                }
                self.pass(1);
            }
        }

        fn pass(&mut self, seconds: u32) {
            self.second += seconds;
            self.classes.tick(self.second * SECOND);
        }

        fn at_most(&self, kind: Kind) -> f64 {
            self.classes.at_most(kind, LIMIT)
        }
    }

    #[test]
    fn a_class_is_believed_from_enough_samples_on() {
        let mut learning = Learning::new();
        learning.see(report(), &[20 * SECOND; 33], 3);
        assert!(learning.at_most(report()) >= 1.0);
        learning.see(report(), &[20 * SECOND; 33], 1);
        assert!(learning.at_most(report()) < 0.05);
        assert!(learning.classes.at_most(report(), 25 * SECOND) > 0.95);
    }

    #[test]
    fn what_is_known_of_one_class_tells_nothing_of_a_new_one() {
        let mut learning = Learning::new();
        learning.see(report(), &[20 * SECOND; 50], 20);
        assert!(learning.at_most(report()) < 0.05);
        assert!(learning.at_most(label()) >= 1.0);
        assert!(learning.at_most(Kind::new(true, None, None, 1)) >= 1.0);
    }

    #[test]
    fn classes_with_few_samples_answer_together() {
        let mut learning = Learning::new();
        // Prompts of four lengths, each too rare to be believed by itself.
        for bytes in [2_000, 8_000, 32_000, 128_000] {
            let kind = Kind::new(false, Some("large"), Some(4_096), bytes);
            learning.see(kind, &[20 * SECOND; 40], 1);
        }
        let new = Kind::new(false, Some("large"), Some(4_096), 512_000);
        assert!(learning.at_most(report()) < 0.05);
        assert!(learning.at_most(new) < 0.05);
        assert!(learning.at_most(label()) >= 1.0);
    }

    #[test]
    fn what_was_given_up_at_the_limit_does_not_flatter() {
        let mut learning = Learning::new();
        for _ in 0..10 {
            for _ in 0..19 {
                learning.classes.given_up(report(), LIMIT);
            }
            learning.see(report(), &[2 * SECOND], 1);
        }
        // One in twenty ended in time, and of the others nobody knows when.
        let told = learning.at_most(report());
        assert!((0.05..0.1).contains(&told), "{told}");
        assert!(learning.classes.at_most(report(), 60 * SECOND) >= 1.0);
    }

    #[test]
    fn a_change_of_speed_is_noticed_in_two_hundred_samples_each_way() {
        let mut learning = Learning::new();
        let fast: Vec<Duration> = (10..20).map(|tenths| tenths * SECOND / 10).collect();
        let slow: Vec<Duration> = fast.iter().map(|took| *took * 12).collect();
        learning.see(report(), &fast, 300);
        assert!(learning.at_most(report()) > 0.9);
        learning.see(report(), &slow, 20);
        assert!(learning.at_most(report()) < 0.05);
        learning.see(report(), &slow, 280);
        learning.see(report(), &fast, 20);
        assert!(learning.at_most(report()) > 0.5);
    }

    #[test]
    fn in_silence_a_class_is_no_longer_believed_and_then_makes_room() {
        let mut learning = Learning::new();
        learning.see(report(), &[20 * SECOND; 20], 10);
        assert!(learning.at_most(report()) < 0.05);
        learning.pass(240);
        assert!(learning.at_most(report()) >= 1.0);
        let count = |learning: &Learning| learning.classes.table.load().all().count();
        assert_eq!(count(&learning), 4);
        learning.pass(3_600);
        assert_eq!(count(&learning), 0);
    }

    #[test]
    fn classes_and_models_are_bounded_and_what_is_beyond_shares_one() {
        let mut learning = Learning::new();
        learning.see(report(), &[20 * SECOND; 100], 2);
        for model in 0..500 {
            let kind = Kind::new(
                false,
                Some(&format!("m{model}")),
                Some(1 << (model % 16)),
                1,
            );
            learning.classes.ended(kind, SECOND);
        }
        learning.pass(1);
        let table = learning.classes.table.load();
        assert!(table.all().count() <= 64);
        assert!(table.all().filter(|one| one.kind.is_model()).count() <= 16);
        let weight: f64 = table.all().map(|one| one.weight()).sum();
        assert!((698.0..=700.0).contains(&weight), "{weight}");
        assert!(learning.at_most(report()) < 0.05);
        // A model that nobody has called answers as those beyond the bound.
        assert!(learning.at_most(Kind::new(false, Some("unheard"), Some(1), 1)) > 0.9);
    }

    #[test]
    fn threads_count_side_by_side_in_one_class() {
        let classes = Classes::new(8, 1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| classes.ended(label(), SECOND)));
            }
        });
        classes.tick(SECOND);
        let (all, below) = classes.below(false, SECOND / 2, 0.05);
        assert!(
            (all - 40_000.0).abs() < 1.0 && (all - below).abs() < 1.0,
            "{all} {below}"
        );
    }
}
