//! Whether a call that failed is sent again, and where.
//!
//! Promises: within the call's deadline, its route's count and its provider's retry budget; another target
//! before the same one; never to a target whose word was final.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Race;
use crate::upstream::target::Target;
use crate::upstream::verdict::{Broken, Verdict};

/// Longest wait before the same target is tried again, where it does not say when.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest wait for a provider that says when, where no deadline bounds it.
const LONGEST_REST: Duration = Duration::from_secs(10);

impl Race<'_> {
    /// Sends the call again if that may help, now or when the provider wants it; `there`: the target that
    /// failed, unless that is of no use; `reason`: what it counts as.
    pub(super) fn retries(
        &mut self,
        verdict: &Verdict,
        rest: Option<Duration>,
        there: Option<&Arc<Target>>,
        reason: &'static str,
    ) -> bool {
        let again = self.tries_again(verdict, rest, there);
        if again {
            self.route.meter.retried(reason);
        }
        again
    }

    fn tries_again(
        &mut self,
        verdict: &Verdict,
        rest: Option<Duration>,
        there: Option<&Arc<Target>>,
    ) -> bool {
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
            self.retries -= 1;
            self.enter(target.clone(), now);
            return true;
        }
        let Some(failed) = there else { return false };
        // The same target again: full jitter, so that callers do not return together.
        let jitter = PAUSE.mul_f64(rand::random::<f64>());
        let at = now + rest.map_or(jitter, |rest| rest + jitter);
        let latest = self.rules.deadline.unwrap_or(now + LONGEST_REST);
        if at >= latest || !failed.provider.retries.try_spend() {
            return false;
        }
        self.retries -= 1;
        self.retry_at = Some((at, failed.clone()));
        true
    }
}
