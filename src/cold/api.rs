//! The jobs API that callers poll (section 5 of the contract).
//!
//! Promises: a caller sees only its own jobs; another's is 404, as if it were not there. Who carries
//! no credentials finds a job by its id, and is told no ids.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::filter::{Filter, NoList, in_list, listed};
use super::job::{Job, JobError, JobId, Owner, Status, StoredAnswer, header_map};
use super::responses;
use super::runner::Runner;
use super::runner::reading::{Held, holding};
use super::store::{Outcome, StoreError, asked, page};
use crate::prefer::{pair, split};
use crate::problem::{Named, problem, wrong_method};

/// Longest wait that a caller can ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The routes of the jobs API.
pub fn router(runner: Arc<Runner>) -> Router {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{id}", get(show).delete(cancel))
        .route("/jobs/{id}/result", get(result))
        .route("/jobs/{id}/events", get(super::events::events))
        .method_not_allowed_fallback(wrong_method)
        .fallback(async || problem(StatusCode::NOT_FOUND, "not_found", "there is no such page"))
        .with_state(runner.clone())
        .merge(responses::router(runner))
}

fn unknown() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "no_job",
        "there is no such job, or it is not yours",
    )
}

/// A query that cannot be read; `wanted` says what may stand there.
fn unreadable(wanted: &str) -> Response {
    let detail = format!("the query cannot be read; {wanted}");
    problem(StatusCode::BAD_REQUEST, "bad_request", &detail)
}

fn unavailable(error: &StoreError) -> Response {
    let text = error.to_string();
    problem(StatusCode::SERVICE_UNAVAILABLE, "overloaded", &text)
}

fn object(job: &Job) -> Response {
    let body = job.to_json().to_string();
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// The job, if it is this caller's.
pub(super) async fn own(runner: &Runner, id: &str, headers: &HeaderMap) -> Result<Job, Response> {
    let id = JobId::parse(id).ok_or_else(unknown)?;
    let job = asked(runner.store().get(&id)).await;
    let job = job.map_err(|error| unavailable(&error))?;
    job.filter(|job| job.owner == Owner::of(headers))
        .ok_or_else(unknown)
}

/// The job once it is finished, or as it stands after the wait.
async fn awaited(
    runner: &Runner,
    id: &str,
    headers: &HeaderMap,
    wait: Duration,
) -> Result<Job, Response> {
    let job = own(runner, id, headers).await?;
    if job.status.is_final() || wait.is_zero() {
        return Ok(job);
    }
    // A drain is over when no answer is under way: whoever waits asks elsewhere or again.
    let awaited = tokio::select! {
        biased;
        () = runner.stop().raised() => runner.store().get(&job.id).await,
        awaited = runner.awaited(&job.id, wait.min(LONGEST_WAIT)) => awaited,
    };
    awaited
        .map_err(|error| unavailable(&error))?
        .ok_or_else(unknown)
}

fn preferred_wait(headers: &HeaderMap) -> Duration {
    let lines = headers
        .get_all("prefer")
        .iter()
        .filter_map(|line| line.to_str().ok());
    let wait = lines.flat_map(|line| split(line, ',')).find_map(|one| {
        let (name, value) = pair(split(one, ';').next()?);
        let seconds = value.parse().ok()?;
        name.eq_ignore_ascii_case("wait").then_some(seconds)
    });
    Duration::from_secs(wait.unwrap_or(0))
}

async fn show(
    State(runner): State<Arc<Runner>>,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let wait = preferred_wait(&headers);
    let job = awaited(&runner, &id, &headers, wait);
    let job = page(wait.min(LONGEST_WAIT), job, unavailable).await?;
    Ok(object(&job))
}

#[derive(Deserialize)]
struct Wait {
    wait: Option<u64>,
}

async fn result(
    State(runner): State<Arc<Runner>>,
    Named(id): Named,
    query: Result<Query<Wait>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let wanted = "send wait as a whole number of seconds, such as ?wait=30";
    let Query(Wait { wait }) = query.map_err(|_| unreadable(wanted))?;
    let patience = wait.map_or_else(|| preferred_wait(&headers), Duration::from_secs);
    let told = told(&runner, &id, &headers, patience, wait);
    page(patience.min(LONGEST_WAIT), told, unavailable).await
}

/// The answer of a job that is finished, or becomes so; else where to ask again.
async fn told(
    runner: &Runner,
    id: &str,
    headers: &HeaderMap,
    patience: Duration,
    wait: Option<u64>,
) -> Result<Response, Response> {
    let job = awaited(runner, id, headers, patience).await?;
    if !job.status.is_final() {
        let mut response = object(&job);
        let headers = response.headers_mut();
        if let Some(wait) = wait.filter(|wait| *wait > 0) {
            // The next link of the chain that an unmodified SDK follows.
            *response.status_mut() = StatusCode::SEE_OTHER;
            let next = format!("/jobs/{}/result?wait={wait}", job.id);
            if let Ok(next) = next.parse() {
                response.headers_mut().insert(LOCATION, next);
            }
        } else {
            headers.insert(RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
            *response.status_mut() = StatusCode::ACCEPTED;
        }
        return Ok(response);
    }
    let answer = asked(runner.read_answer(&job.id)).await;
    Ok(match answer.map_err(|error| unavailable(&error))? {
        Some((answer, held)) => replay(answer, held),
        None => unanswered(&job),
    })
}

/// A provider's answer as it was.
pub(super) fn replay(answer: StoredAnswer, held: Held) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = (status, holding(answer.body, held)).into_response();
    *response.headers_mut() = header_map(&answer.headers);
    response
}

fn unanswered(job: &Job) -> Response {
    let status = match job.status {
        Status::Expired => StatusCode::GATEWAY_TIMEOUT,
        Status::Cancelled => StatusCode::GONE,
        _ => StatusCode::BAD_GATEWAY,
    };
    let status_name = job.status.as_str();
    let fallback = JobError::new(status_name, format!("the job is {status_name}"));
    let error = job.error.as_ref().unwrap_or(&fallback);
    problem(status, &error.code, &error.message)
}

/// The end that its caller wants.
pub(super) fn cancelled() -> Outcome {
    Outcome::cancelled(JobError::new("cancelled", "its caller cancelled it"))
}

async fn cancel(
    State(runner): State<Arc<Runner>>,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<Response, Response> {
    page(Duration::ZERO, ended(&runner, &id, &headers), unavailable).await
}

async fn ended(runner: &Arc<Runner>, id: &str, headers: &HeaderMap) -> Result<Response, Response> {
    let job = own(runner, id, headers).await?;
    let ended = asked(runner.end_for(&job.id, cancelled())).await;
    match ended.map_err(|error| unavailable(&error))? {
        Some(job) => Ok(object(&job)),
        None => Err(problem(
            StatusCode::CONFLICT,
            "finished",
            "the job is finished; there is nothing to cancel",
        )),
    }
}

async fn list(
    State(runner): State<Arc<Runner>>,
    query: Result<Query<Filter>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let wanted = "send status, route, limit and after, each once at most and nothing else, limit as a \
                  whole number, such as ?status=failed&limit=20";
    let Query(filter) = query.map_err(|_| unreadable(wanted))?;
    let bad = |detail: String| problem(StatusCode::BAD_REQUEST, "bad_request", &detail);
    let owner = Owner::of(&headers);
    let query = filter.query(Some(owner), 100).map_err(bad)?;
    if owner == Owner::ANYONE {
        // The id is the right to such a job: one that did not get it is not told it here.
        return Ok(axum::Json(in_list([].iter(), false)).into_response());
    }
    match listed(runner.store(), query).await {
        Ok(page) => Ok(axum::Json(page).into_response()),
        Err(NoList::NoSuchJob(detail)) => Err(bad(detail)),
        Err(NoList::Unavailable(error)) => Err(unavailable(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_understood_however_rfc_7240_lets_it_be_written() {
        let wait = |line: &str| {
            let headers =
                HeaderMap::from_iter([("prefer".parse().unwrap(), line.parse().unwrap())]);
            preferred_wait(&headers).as_secs()
        };
        let written = [
            "wait=30",
            "Wait=30",
            "wait = 30",
            "wait=\"30\"",
            "respond-async, wait=30; x=1",
        ];
        for line in written {
            assert_eq!(wait(line), 30, "{line}");
        }
        for other in ["waiting=30", "x=\"wait=30, wait=30\"", "wait=soon", "wait"] {
            assert_eq!(wait(other), 0, "{other}");
        }
    }
}
