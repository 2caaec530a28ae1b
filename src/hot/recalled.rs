//! The first call under an `Idempotency-Key` since this process began: what the store knows of it.

use std::time::Duration;

use http::{Response, StatusCode};
use tokio::time::{Instant, timeout};

use super::answer::mark;
use super::budget::Then;
use super::demote::{accepted, too_slow};
use super::error::Code;
use super::ready::{Ready, Refusal};
use super::relay::{AnswerBody, came_to};
use super::share::{OTHER, Settled, mark_joined};
use crate::cold::door::Door;
use crate::cold::job::{StoredAnswer, header_map};
use crate::cold::recall::{CallKey, Recalled};
use crate::cold::store::StoreError;

/// How long a caller waits for the job that its key stands for, where no deadline bounds it.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long the store may be silent on top of that.
const SILENCE: Duration = Duration::from_millis(500);

type Answered = Result<Response<AnswerBody>, Refusal>;

/// Gives the call back if its key is free, else the answer to it. A job that its key stands for is
/// waited for within the call's own deadline.
pub(super) async fn recalled(
    door: &Door,
    key: CallKey,
    mut ready: Box<Ready>,
) -> Result<Box<Ready>, Answered> {
    let asked = Instant::now();
    let wait = match ready.deadline.then {
        Then::GoOn(_) => PATIENCE,
        _ => ready
            .deadline
            .budget
            .saturating_sub(ready.arrived.elapsed()),
    };
    let asked_for = timeout(wait + SILENCE, door.recall(key, wait)).await;
    ready.record.waited_for_store(asked.elapsed());
    let silent = || StoreError::Unavailable("it did not answer in time".into());
    let known = match asked_for.unwrap_or_else(|_| Err(silent())) {
        Ok(Recalled::Nothing) => return Ok(ready),
        Ok(known) => known,
        Err(why) => {
            let message =
                format!("it cannot be looked up what the Idempotency-Key stands for: {why}");
            return Err(Err(ready.refuse(Code::Overloaded, message)));
        }
    };
    Err(match known {
        Recalled::Answer(answer) => {
            ready.route.meter.joined("store");
            Ok(replay(*ready, answer))
        }
        Recalled::Job(job) if ready.deadline.then.is_job() => Ok(accepted(ready, &job, 0)),
        Recalled::Job(_) => {
            ready.record.misses(ready.deadline.failing());
            Err(too_slow(ready))
        }
        Recalled::Other | Recalled::Nothing => {
            Err(ready.refuse(Code::IdempotencyMismatch, OTHER.into()))
        }
    })
}

fn replay(ready: Ready, answer: StoredAnswer) -> Response<AnswerBody> {
    let mut record = ready.record;
    if let Some(timeline) = record.timeline() {
        timeline.joins("store");
    }
    let (own, provider) = record.answers(None, answer.status);
    let mut response = Response::new(AnswerBody::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    *response.headers_mut() = header_map(&answer.headers);
    mark(response.headers_mut(), &record, own, provider);
    mark_joined(&mut response, "store");
    response.extensions_mut().insert(Settled);
    record.finish(came_to(answer.status, false));
    response
}
