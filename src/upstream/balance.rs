//! Which of a route's targets gets an attempt.
//!
//! The one where a call would wait least: average first token times calls in flight, by weight. A
//! route has a handful of targets and one gateway knows its own calls exactly, so all are compared;
//! two choices at random (Mitzenmacher 2001), the rule for many targets and stale news, leaves a
//! fifth more p99 here (`cargo bench --bench figures -- balance`). Promises: an attempt goes to a
//! target that was not tried where there is one; ejected and resting targets are left alone unless
//! no other is left, so that a route is never without a target; a target that may be probed gets
//! one call.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::health::Admission;
use super::peers::Peers;
use super::target::Target;
use crate::config::Dialect;

/// The targets of a route.
pub struct Targets {
    all: Vec<Arc<Target>>,
    peers: Peers,
}

/// Targets and what a call there costs.
type Open<'a> = SmallVec<[(&'a Arc<Target>, f64); 8]>;

impl Targets {
    /// At least one target.
    pub fn new(all: Vec<Arc<Target>>) -> Self {
        let peers = Peers::default();
        Self { all, peers }
    }

    /// Every target.
    pub fn all(&self) -> &[Arc<Target>] {
        &self.all
    }

    /// The API they speak.
    pub fn dialect(&self) -> Dialect {
        self.all[0].provider.dialect
    }

    /// Compares the targets with each other and shows how they stand; meant for once a second.
    pub fn tend(&self, now: Instant) {
        self.peers.compare(&self.all, now);
        for target in &self.all {
            target.show(now);
        }
    }

    /// A target for a first attempt.
    pub fn first(&self, now: Instant) -> &Arc<Target> {
        if let [only] = self.all.as_slice() {
            if only.health.admission(now) == Admission::HalfOpen {
                only.health.probe(now);
            }
            return only;
        }
        let weighted = |target: &&Arc<Target>| target.weight() > 0;
        pick(self.all.iter().filter(weighted), now)
            .or_else(|| pick(self.all.iter(), now))
            .or_else(|| by_weight(&self.all.iter()))
            .expect("a route has at least one target")
    }

    /// A target for a job: as `first`, of those that take one and are open or to be probed; `None`
    /// where none is. Nobody waits for a job: it is not sent in vain.
    pub fn first_of(&self, takes: impl Fn(&Target) -> bool, now: Instant) -> Option<&Arc<Target>> {
        let takes = |target: &&Arc<Target>| takes(target);
        let weighted = |target: &&Arc<Target>| target.weight() > 0 && takes(target);
        pick(self.all.iter().filter(weighted), now)
            .or_else(|| pick(self.all.iter().filter(takes), now))
    }

    /// Where every target is left alone: until one may be sent to, as far as is known.
    pub fn closed_for(&self, now: Instant) -> Option<Duration> {
        let each = self.all.iter().map(|target| target.health.closed_for(now));
        each.reduce(|one, other| Some(one?.min(other?))).flatten()
    }

    /// Whether nothing speaks for any target.
    pub fn are_doubtful(&self, now: Instant) -> bool {
        self.all.iter().all(|target| target.health.is_doubtful(now))
    }

    /// A target for an attempt beside one that runs: one that was not tried, else any that is not left
    /// alone; `None` where all are, as what runs may be answered yet.
    pub fn beside(&self, tried: &[Arc<Target>], now: Instant) -> Option<&Arc<Target>> {
        let weighted = |target: &&Arc<Target>| target.weight() > 0 || self.all.len() == 1;
        self.untried(tried, now)
            .or_else(|| pick(self.all.iter().filter(weighted), now))
    }

    /// A target for another attempt: one that was not tried, else the one that failed, which it may probe.
    pub fn again<'a>(
        &'a self,
        tried: &[Arc<Target>],
        failed: &'a Arc<Target>,
        now: Instant,
    ) -> &'a Arc<Target> {
        self.untried(tried, now).unwrap_or_else(|| {
            if failed.health.admission(now) == Admission::HalfOpen {
                failed.health.probe(now);
            }
            failed
        })
    }

    /// An open target that was not tried.
    pub fn untried(&self, tried: &[Arc<Target>], now: Instant) -> Option<&Arc<Target>> {
        let fresh = |target: &&Arc<Target>| !tried.iter().any(|one| Arc::ptr_eq(one, target));
        pick(self.all.iter().filter(fresh), now)
    }
}

/// The open target that costs least, or one that is to be probed.
fn pick<'a>(among: impl Iterator<Item = &'a Arc<Target>>, now: Instant) -> Option<&'a Arc<Target>> {
    let mut open = Open::new();
    for target in among {
        match target.health.admission(now) {
            Admission::Open => open.push((target, target.cost(now))),
            Admission::HalfOpen if target.health.probe(now) => return Some(target),
            Admission::HalfOpen | Admission::Closed => {}
        }
    }
    let costs = open.iter().map(|(_, cost)| *cost);
    let least = costs.fold(f64::INFINITY, f64::min);
    // Where several cost the same, as when nothing is known of them, their weights decide.
    open.retain(|(_, cost)| *cost <= least);
    by_weight(&open.iter().map(|(target, _)| *target))
}

/// One of these at random, by weight; where no weight tells, the first.
fn by_weight<'a>(
    among: &(impl Iterator<Item = &'a Arc<Target>> + Clone),
) -> Option<&'a Arc<Target>> {
    let weights: u32 = among.clone().map(|target| target.weight()).sum();
    let mut draw = rand::random_range(0..weights.max(1));
    let drawn = among.clone().find(|target| {
        let found = draw < target.weight();
        draw = draw.saturating_sub(target.weight());
        found
    });
    drawn.or_else(|| among.clone().next())
}
