//! Which of a route's targets gets an attempt.
//!
//! The power of two choices (Mitzenmacher 2001) on peak-EWMA times calls in flight, by weight: of
//! two targets drawn at random the one where a call would wait less. Promises: an attempt goes to
//! a target that was not tried where there is one; ejected and resting targets are left alone
//! unless no other is left, so that a route is never without a target; a target that may be probed
//! gets one call.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::health::Admission;
use super::target::Target;

/// The targets of a route.
pub struct Targets {
    all: Vec<Arc<Target>>,
}

type Open<'a> = SmallVec<[&'a Arc<Target>; 8]>;

impl Targets {
    /// At least one target.
    pub fn new(all: Vec<Arc<Target>>) -> Self {
        Self { all }
    }

    /// Every target.
    pub fn all(&self) -> &[Arc<Target>] {
        &self.all
    }

    /// A target for a first attempt.
    pub fn first(&self, now: Instant) -> &Arc<Target> {
        if let [only] = self.all.as_slice() {
            return only;
        }
        let weighted = |target: &&Arc<Target>| target.weight() > 0;
        pick(self.all.iter().filter(weighted), now)
            .or_else(|| pick(self.all.iter(), now))
            .unwrap_or_else(|| self.draw())
    }

    /// A target for a further attempt: one that was not tried where one is open, else any.
    pub fn another(&self, tried: &[Arc<Target>], now: Instant) -> &Arc<Target> {
        self.untried(tried, now).unwrap_or_else(|| self.first(now))
    }

    /// An open target that was not tried.
    pub fn untried(&self, tried: &[Arc<Target>], now: Instant) -> Option<&Arc<Target>> {
        let fresh = |target: &&Arc<Target>| !tried.iter().any(|one| Arc::ptr_eq(one, target));
        pick(self.all.iter().filter(fresh), now)
    }

    /// Any target by weight, when none is open.
    fn draw(&self) -> &Arc<Target> {
        let weights: u32 = self.all.iter().map(|target| target.weight()).sum();
        if weights > 0 {
            let mut draw = rand::random_range(0..weights);
            for target in &self.all {
                if draw < target.weight() {
                    return target;
                }
                draw -= target.weight();
            }
        }
        &self.all[0]
    }
}

/// The better of two open targets, or one that is to be probed.
fn pick<'a>(among: impl Iterator<Item = &'a Arc<Target>>, now: Instant) -> Option<&'a Arc<Target>> {
    let mut open = Open::new();
    for target in among {
        match target.health.admission(now) {
            Admission::Open => open.push(target),
            Admission::HalfOpen if target.health.probe() => return Some(target),
            Admission::HalfOpen | Admission::Closed => {}
        }
    }
    let (one, other) = match open.len() {
        0 => return None,
        1 => return Some(open[0]),
        2 => (0, 1),
        count => {
            let one = rand::random_range(0..count);
            (one, (one + rand::random_range(1..count)) % count)
        }
    };
    let (one, other) = (open[one], open[other]);
    let (first, second) = (one.cost(now), other.cost(now));
    let tie = (first - second).abs() < f64::EPSILON;
    let takes_first = if tie {
        // Nothing is known of either: their weights decide.
        let both = one.weight() + other.weight();
        both == 0 || rand::random_range(0..both) < one.weight()
    } else {
        first < second
    };
    Some(if takes_first { one } else { other })
}
