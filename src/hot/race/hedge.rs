//! When a second attempt starts beside a slow one, where, and what its answer is worth.
//!
//! Promises: within the route's cap (`hedge.max_extra`) and never at a target that is left alone; a hedge
//! that fails takes nothing from the attempt that it was started beside.

use tokio::time::Instant;

use super::again::Next;
use super::{Finish, Race};
use crate::journal::timeline::Kind;
use crate::upstream::attempts::Entry;
use crate::upstream::verdict::Verdict;

impl Race<'_> {
    pub(super) fn next_hedge(&self, from: Instant) -> Option<Instant> {
        let most = self.route.hedge.max_attempts as usize;
        if !self.rules.safe || self.attempts.running() >= most {
            return None;
        }
        let rule = self.route.line(self.call.streamed).rule()?;
        let chosen = rule.share >= 1.0 || rand::random::<f64>() < rule.share;
        chosen.then(|| from + rule.delay)
    }

    /// Starts a second attempt if the bucket and the target have room for it now.
    pub(super) fn hedge(&mut self, now: Instant) {
        if !self.route.hedges.try_spend() {
            self.route.meter.hedges_denied.increment(1);
            return;
        }
        let targets = &self.route.targets;
        let target = targets.beside(self.attempts.tried(), now).cloned();
        let permit = target.as_ref().and_then(|target| target.permit(now));
        match (target, permit) {
            (Some(target), Some(permit)) => {
                self.launch(target, permit, Kind::Hedge, now);
                self.hedge_at = self.next_hedge(now);
            }
            (target, _) => {
                if let Some(target) = target {
                    // It may have been picked to be probed: that place is free again.
                    target.health.given_up(now);
                }
                self.route.hedges.refund();
                self.route.meter.hedges_denied.increment(1);
            }
        }
    }

    /// An answer came. A hedge's error, as of a second target that lacks the model, says nothing of the call
    /// itself: what still runs goes on, and what failed meanwhile is sent again.
    pub(super) fn answered(&mut self, entry: Entry) -> Option<Finish> {
        let good = |head: &http::response::Parts| head.status.as_u16() < 400;
        let worse = entry.hedge && !entry.attempt.head().is_some_and(good);
        let next = if !worse {
            None
        } else if self.attempts.running() > 0 {
            Some(Next::Again)
        } else {
            let failed = self.failed.take();
            failed.and_then(|failed| self.after(&failed))
        };
        let Some(next) = next else {
            return Some(self.wins(entry));
        };
        self.route.meter.hedges_failed.increment(1);
        self.record.failed(&entry, &Verdict::Answer, "status");
        next.finish()
    }
}
