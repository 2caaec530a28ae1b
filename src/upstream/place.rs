//! At which target a call gets in, where targets have limits.
//!
//! Promises: the picked target where it has a place, else the cheapest open one that has; a target
//! that was picked to be probed and gets no call is free to be probed.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::balance::Targets;
use super::health::Admission;
use super::permits::{Permit, Permits};
use super::target::Target;

/// A place, or where to wait for one.
pub enum Place {
    /// One, there.
    Free(Arc<Target>, Permit),
    /// All are full; this one's wait is the shortest.
    Full(Arc<Target>, Arc<Permits>),
}

impl Targets {
    /// A target that was not tried, and a place there, for who got one here that is left alone by now; `None`:
    /// this one is as good, or is to be probed and this call does it.
    pub fn instead_of(
        &self,
        here: &Arc<Target>,
        tried: &[Arc<Target>],
        now: Instant,
    ) -> Option<(Arc<Target>, Permit)> {
        match here.health.admission(now) {
            Admission::Open => return None,
            Admission::HalfOpen if here.health.probe(now) => return None,
            Admission::HalfOpen | Admission::Closed => {}
        }
        let mut tried: SmallVec<[Arc<Target>; 4]> = tried.into();
        tried.push(here.clone());
        let other = self.untried(&tried, now)?;
        let place = other.permit(now);
        if place.is_none() {
            other.health.given_up(now);
        }
        Some((other.clone(), place?))
    }

    /// A place at the picked target, or at another that is open.
    pub fn enter(&self, picked: Arc<Target>, now: Instant) -> Place {
        let Some(permits) = &picked.permits else {
            return Place::Free(picked, Permit::default());
        };
        if let Some(permit) = permits.take(now) {
            return Place::Free(picked, permit);
        }
        picked.health.given_up(now);
        let other = |target: &&Arc<Target>| !Arc::ptr_eq(target, &picked) && target.weight() > 0;
        let mut open: SmallVec<[&Arc<Target>; 8]> = self
            .all()
            .iter()
            .filter(other)
            .filter(|target| target.is_open(now))
            .collect();
        open.sort_by(|one, other| one.cost(now).total_cmp(&other.cost(now)));
        let placed = open
            .iter()
            .find_map(|target| Some(((*target).clone(), target.permit(now)?)));
        if let Some((target, permit)) = placed {
            return Place::Free(target, permit);
        }
        let waits = open
            .into_iter()
            .filter_map(|target| Some((target, target.permits.as_ref()?)));
        let (target, permits) = waits
            .chain([(&picked, permits)])
            .min_by_key(|(_, permits)| permits.expected_wait())
            .expect("the picked one is among them");
        Place::Full(target.clone(), permits.clone())
    }
}
