//! What a call gets that finds no place at any target in time: 202 and a job, or 503.

use std::time::Duration;

use http::Response;

use super::demote;
use super::error::Code;
use super::ready::{Ready, Refusal};
use super::relay::AnswerBody;
use crate::cold::door::Door;
use crate::cold::job::Reason;
use crate::upstream::attempts::Attempts;

/// Seconds that a caller is told to wait: no less, so that it waits at all, and no more than an SDK
/// sleeps.
const TOLD: std::ops::RangeInclusive<u64> = 1..=30;

/// Makes the call a job if its caller can have one, else refuses it. `wait`: until there may be a
/// place.
pub(super) async fn shed(
    door: &Door,
    mut ready: Box<Ready>,
    attempts: Attempts,
    wait: Duration,
) -> Result<Response<AnswerBody>, Refusal> {
    let meter = ready.route.meter.clone();
    if ready.deadline.then.is_job() {
        ready.deadline.reason = Reason::Overload;
        let demoted = demote::demote(door, ready, attempts).await;
        let counted = if demoted.is_ok() {
            &meter.shed_demoted
        } else {
            &meter.shed_refused
        };
        counted.increment(1);
        return demoted;
    }
    meter.shed_refused.increment(1);
    let message = format!(
        "every target of route `{}` has as many calls as it takes; try again, or send \
         `Prefer: respond-async` to get the answer later",
        ready.route.name
    );
    Err(ready.refuse(Code::Shed(seconds(wait)), message))
}

/// Whole seconds, rounded up, as they are told.
pub(super) fn seconds(wait: Duration) -> u8 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let told = whole.clamp(*TOLD.start(), *TOLD.end());
    u8::try_from(told).expect("it is at most thirty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_whole_seconds_from_one_to_thirty() {
        let told = |millis| seconds(Duration::from_millis(millis));
        let all = [0, 999, 1_000, 1_001, 29_500, 3_600_000].map(told);
        assert_eq!(all, [1, 1, 1, 2, 30, 30]);
    }
}
