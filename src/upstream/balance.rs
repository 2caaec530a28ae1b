//! Which of a route's targets gets an attempt.
//!
//! The one where a call would wait least: average first token times calls in flight, by weight. A route has a
//! handful of targets and one gateway knows its own calls exactly, so all are compared; two choices
//! at random (Mitzenmacher 2001), the rule for many targets and stale news, leaves a fifth more p99
//! here (`cargo bench --bench figures -- balance`). Promises: an attempt goes to
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

/// Targets and what a call there costs.
type Open<'a> = SmallVec<[(&'a Arc<Target>, f64); 8]>;

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

/// The open target that costs least, or one that is to be probed.
fn pick<'a>(among: impl Iterator<Item = &'a Arc<Target>>, now: Instant) -> Option<&'a Arc<Target>> {
    let mut open = Open::new();
    for target in among {
        match target.health.admission(now) {
            Admission::Open => open.push((target, target.cost(now))),
            Admission::HalfOpen if target.health.probe() => return Some(target),
            Admission::HalfOpen | Admission::Closed => {}
        }
    }
    let costs = open.iter().map(|(_, cost)| *cost);
    let least = costs.fold(f64::INFINITY, f64::min);
    // Where several cost the same, as when nothing is known of them, their weights decide.
    open.retain(|(_, cost)| *cost <= least);
    let open = open.iter().map(|(target, _)| *target);
    let weights: u32 = open.clone().map(|target| target.weight()).sum();
    let mut draw = rand::random_range(0..weights.max(1));
    let drawn = open.clone().find(|target| {
        let found = draw < target.weight();
        draw = draw.saturating_sub(target.weight());
        found
    });
    drawn.or_else(|| open.clone().next())
}
