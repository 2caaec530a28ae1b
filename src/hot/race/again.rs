//! Whether a call that failed is sent again, and where.
//!
//! Promises: within the call's deadline, its route's count and its provider's retry budget; another target
//! before the same one; never to a target whose word was final.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Finish, Race};
use crate::upstream::target::Target;
use crate::upstream::verdict::{Broken, Verdict};

/// Longest wait before the same target is tried again, where it does not say when.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest wait for a provider that says when, where no deadline bounds it.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// An attempt that another may improve on.
pub(super) struct Failed {
    pub verdict: Verdict,
    /// Until when its target wants to be left alone.
    pub rest: Option<Duration>,
    /// Its target, unless the same again is of no use there.
    pub there: Option<Arc<Target>>,
    pub reason: &'static str,
}

/// What follows one that failed.
pub(super) enum Next {
    /// Another attempt, now or in a while.
    Again,
    /// The call becomes a job.
    Later,
}

impl Next {
    /// What it is to the race.
    pub fn finish(self) -> Option<Finish> {
        match self {
            Self::Again => None,
            Self::Later => Some(Finish::Later),
        }
    }
}

impl Race<'_> {
    /// What follows an attempt that failed, where nothing else runs; `None`: nothing improves on it.
    pub(super) fn after(&mut self, failed: &Failed) -> Option<Next> {
        // Where a job can be made and nobody is there, it is not sent in vain.
        let away = self.rules.job && failed.verdict.is_away() && failed.there.is_some();
        let closed = || self.route.targets.closed_for(Instant::now()).is_some();
        let in_vain = away && failed.rest.is_none() && closed();
        if !in_vain && self.retries(failed) {
            self.route.meter.retried(failed.reason);
            return Some(Next::Again);
        }
        // The provider says when, and that is too late for this caller, or is not there: a job can
        // wait for it.
        (away || (failed.rest.is_some() && self.rules.job)).then_some(Next::Later)
    }

    /// Sends the call again if that may help, now or when the provider wants it.
    fn retries(&mut self, failed: &Failed) -> bool {
        let verdict = &failed.verdict;
        if matches!(
            verdict,
            Verdict::Broken(Broken::Request(_) | Broken::Caller(_))
        ) {
            return false;
        }
        // Nothing of the call was done, or it is safe twice.
        let allowed = self.rules.retry && (verdict.is_away() || self.rules.safe);
        if !allowed || self.retries == 0 {
            return false;
        }
        let now = Instant::now();
        if let Some(target) = self.route.targets.untried(self.attempts.tried(), now) {
            if !target.provider.retries.try_spend() {
                // It may have been picked to be probed: that place is free again.
                target.health.given_up(now);
                return false;
            }
            let provider = target.provider.clone();
            self.enter(target.clone(), now);
            if self.shed.take().is_some() {
                // Without a place in time there, what came is better than nothing.
                provider.retries.refund();
                return false;
            }
            self.retries -= 1;
            return true;
        }
        let Some(there) = &failed.there else {
            return false;
        };
        // The same target again: full jitter, so that callers do not return together.
        let jitter = PAUSE.mul_f64(rand::random::<f64>());
        let at = now + failed.rest.map_or(jitter, |rest| rest + jitter);
        let latest = self.rules.deadline.unwrap_or(now + LONGEST_REST);
        if at >= latest || !there.provider.retries.try_spend() {
            return false;
        }
        self.retries -= 1;
        self.retry_at = Some((at, there.clone()));
        true
    }
}
