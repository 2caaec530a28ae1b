//! Every class of one route's calls: how likely a call like this one ends within a limit.
//!
//! Promises: counting and asking take no lock and do not allocate but for a new class; classes and
//! models are bounded, and what nobody calls any more makes room. A class with few samples answers as
//! its next wider one, which is made of all such classes below it and not of those that are known by
//! themselves (back-off, Katz 1987): a thousand reports tell nothing of the first short answer.
//! Never reads a clock: `tick` is told the time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::class::Class;
use super::coarse::Counts;
use super::kind::Kind;
use super::table::Table;

/// What is left of a sample after this is 1/e: a steady class remembers as many samples as five
/// minutes bring.
const MEMORY: Duration = Duration::from_mins(5);

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
