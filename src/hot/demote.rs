//! What a call gets at its deadline: 202 and a job, 303 to its result, or 504.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::time::Instant;

use super::answer::mark;
use super::budget::Then;
use super::error::Code;
use super::ready::{Ready, Refusal};
use super::relay::AnswerBody;
use super::share::Settled;
use crate::cold::background::{Background, object};
use crate::cold::door::{Door, Handover};
use crate::cold::job::{
    Callback, CallbackStatus, Job, JobId, Reason, Status, StoredRequest, UnixMillis, lines,
};
use crate::cold::store::StoreError;
use crate::meter::{Outcome, Use};
use crate::placed::pinned;
use crate::upstream::attempts::Attempts;

/// How long the store may take while a caller waits. For a new job it has `cold.margin` before the
/// deadline; past this the caller hears that there is no job.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// The answer to a call past a deadline that is enforced.
pub(super) fn too_slow(ready: Box<Ready>) -> Refusal {
    let budget = ready.deadline.budget.as_millis();
    let message = format!(
        "route `{}` had no answer within its budget of {budget} ms; send `Prefer: respond-async` to \
         get the answer later, or have the route's budget raised",
        ready.route.name
    );
    ready.refuse(Code::BudgetExceeded, message)
}

/// Makes a call a job: what runs goes on under its new owner, and the caller has its answer. Boxed, as
/// all that most calls never come to: they have no room for it.
pub(super) async fn demote(
    door: &Door,
    ready: Box<Ready>,
    attempts: Attempts,
) -> Result<Response<AnswerBody>, Refusal> {
    let made = pinned(|| hand_over(door, ready, attempts)).await;
    made.map_err(|(ready, why)| no_job(ready, &why))
}

fn no_job(ready: Box<Ready>, why: &StoreError) -> Refusal {
    let first = match ready.deadline.reason {
        Reason::ProviderDown => "no target answers",
        Reason::Predicted => "the call would be over its budget",
        _ => "the call is over its budget",
    };
    let message = format!("{first} and the call cannot become a job: {why}");
    ready.refuse(Code::Overloaded, message)
}

/// Makes a job of a call that did not begin, or gives it back to be run where none can be made of it.
/// Where the store is silent the job may be written yet: a call whose key would lead to it is refused,
/// as it would run twice, and so is one whose time is over.
pub(super) async fn at_once(
    door: &Door,
    mut ready: Box<Ready>,
    reason: Reason,
) -> Result<Result<Response<AnswerBody>, Refusal>, Box<Ready>> {
    let before = std::mem::replace(&mut ready.deadline.reason, reason);
    let made = pinned(|| hand_over(door, ready, Attempts::default()));
    let (mut ready, why) = match made.await {
        Ok(told) => return Ok(Ok(told)),
        Err(back) => back,
    };
    let over = ready.arrived.elapsed() >= ready.deadline.budget;
    if matches!(why, StoreError::Silent) && (over || ready.key.is_some()) {
        return Ok(Err(no_job(ready, &why)));
    }
    ready.deadline.reason = before;
    Err(ready)
}

/// The same; where no job can be made the call comes back, without its attempts.
async fn hand_over(
    door: &Door,
    mut ready: Box<Ready>,
    mut attempts: Attempts,
) -> Result<Response<AnswerBody>, (Box<Ready>, StoreError)> {
    attempts.used_for(Use::Cold);
    let job = job(&ready, &attempts);
    if let Some(timeline) = ready.record.timeline() {
        let (id, reason) = (job.id.as_str(), job.reason.as_str());
        if let Some(told) = timeline.becomes(id, reason, Instant::now()) {
            told.write(&mut ready.call.headers);
        }
    }
    let request = StoredRequest {
        method: ready.call.method.to_string(),
        path_and_query: ready.call.path.to_string(),
        headers: lines(&ready.call.headers),
        body: ready.call.body.clone(),
    };
    let (made, asked) = (attempts.made(), Instant::now());
    let handover = Handover {
        job: job.clone(),
        request,
        attempts,
        key: ready.key,
        scope: ready.scope.as_ref().map(|scope| scope.token()),
    };
    let kept = door.hand_over(handover, PATIENCE).await;
    ready.record.waited_for_store(asked.elapsed());
    match kept {
        // One that the key led to before stands for this one.
        Ok(before) => Ok(accepted(ready, before.as_deref().unwrap_or(&job), made)),
        Err(why) => {
            if let Some(timeline) = ready.record.timeline() {
                timeline.stays();
            }
            Err((ready, why))
        }
    }
}

fn job(ready: &Ready, attempts: &Attempts) -> Job {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let now = UnixMillis::now();
    let age = ready.arrived.elapsed();
    let created_at = UnixMillis(now.0 - i64::try_from(age.as_millis()).unwrap_or(0));
    let running = attempts.running() > 0;
    Job {
        id: JobId::random(),
        owner: ready.record.owner(&ready.call.headers),
        status: if running {
            Status::Running
        } else {
            Status::Queued
        },
        route: ready.route.name.to_string(),
        reason: ready.deadline.reason,
        budget_ms: millis(ready.deadline.budget),
        elapsed_ms: millis(age),
        created_at,
        expires_at: created_at.plus(ready.route.cold.deadline.get()),
        finished_at: None,
        attempts: u32::try_from(attempts.made()).unwrap_or(u32::MAX),
        fence: u64::from(running),
        error: None,
        callback: ready.intent.callback.as_ref().map(|url| Callback {
            url: url.clone(),
            status: CallbackStatus::Pending,
            deliveries: 0,
            last_error: None,
        }),
        scope: ready.scope.as_ref().map(|scope| scope.name().to_owned()),
        background: Background::of(
            ready.route.dialect,
            ready.call.method == Method::POST,
            ready.call.path.path(),
            &ready.call.body,
        ),
        priority: ready.intent.priority,
    }
}

/// 202 with the job, or 303 to its result.
pub(super) fn accepted(ready: Box<Ready>, job: &Job, made: usize) -> Response<AnswerBody> {
    let mut record = ready.record;
    if let Some(timeline) = record.timeline() {
        timeline.is_told_of(job.id.as_str(), job.reason.as_str());
    }
    let see_other = ready.deadline.then == Then::SeeOther;
    let (status, location) = if see_other {
        (
            StatusCode::SEE_OTHER,
            format!("/jobs/{}/result?wait=25", job.id),
        )
    } else {
        (StatusCode::ACCEPTED, format!("/jobs/{}", job.id))
    };
    let body = match &job.background {
        Some(background) if !see_other => object(job, background, None),
        _ => job.to_json(),
    };
    let body = Bytes::from(body.to_string());
    let mut response = Response::new(AnswerBody::from(body));
    *response.status_mut() = status;
    response.extensions_mut().insert(Settled);
    let (own, provider) = record.answers(None, status.as_u16());
    let headers = response.headers_mut();
    mark(headers, &record, own, provider);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-shunt-attempts", (made as u64).into());
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(LOCATION, location);
    }
    if !see_other {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        let applied = HeaderValue::from_static("respond-async");
        headers.insert("preference-applied", applied);
    }
    record.finish(Outcome::Demoted);
    response
}
