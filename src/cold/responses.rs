//! `OpenAI`'s own way to poll and cancel a response, for those that Shunt made.
//!
//! Promises: answers for a caller's own; another's is 404 in `OpenAI`'s shape; a name that no job
//! has is handed back, since the provider may know it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::api::{cancelled, replay};
use super::background::{self, Background, finished, job_id, object};
use super::events;
use super::job::{Job, JobId, Owner, Status, StoredAnswer};
use super::runner::Runner;
use super::runner::reading::holding;
use super::store::{StoreError, asked, page as page_within};

/// What is longer is read on a thread of its own: milliseconds.
const SHORT: usize = 256 << 10;

/// Marks an answer that is none: the name is not of Shunt's making.
#[derive(Clone, Copy, Debug)]
pub struct NotOurs;

/// The page that answers for a path, if it may name a response that Shunt made.
pub fn page(path: &str) -> Option<&str> {
    const NAME: usize = "resp_".len() + 32;
    let whole = path.strip_suffix("/cancel").unwrap_or(path);
    let at = whole.len().checked_sub(NAME)?;
    let (before, name) = whole.split_at_checked(at)?;
    let before = before.strip_suffix("/responses/")?;
    job_id(name)?;
    Some(&path[before.len()..])
}

/// What a response's name stands for at its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtProvider {
    /// It is none of the caller's that Shunt made: the provider may know it.
    Unknown,
    /// There is no answer yet, or none will come.
    Nothing(Status),
    /// The provider's own name for it.
    Named(String),
}

/// By which name a provider knows the response that a caller knows by its job's.
pub(super) async fn at_provider(
    runner: &Runner,
    owner: Owner,
    id: &JobId,
) -> Result<AtProvider, StoreError> {
    let job = runner.store().get(id).await?;
    let Some(job) = job.filter(|job| job.owner == owner && job.background.is_some()) else {
        return Ok(AtProvider::Unknown);
    };
    if job.status != Status::Succeeded {
        return Ok(AtProvider::Nothing(job.status));
    }
    let answer = runner.store().answer(id).await?;
    let name = answer.and_then(|answer| background::name(&answer));
    Ok(name.map_or(AtProvider::Unknown, AtProvider::Named))
}

/// The pages.
pub fn router(runner: Arc<Runner>) -> Router {
    Router::new()
        .route("/responses/{id}", get(show))
        .route("/responses/{id}/cancel", post(cancel))
        .with_state(runner)
}

/// An error in `OpenAI`'s shape. A 503 says when to come back.
pub(super) fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    let kind = if status.is_client_error() {
        "invalid_request_error"
    } else {
        "server_error"
    };
    let error = json!({"message": message, "type": kind, "code": code, "param": null});
    let body = json!({"error": error}).to_string();
    let mut response = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let later = HeaderValue::from_static("5");
        response.headers_mut().insert(RETRY_AFTER, later);
    }
    response
}

pub(super) fn unavailable(error: &StoreError) -> Response {
    refused(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        &error.to_string(),
    )
}

fn not_ours() -> Response {
    let mut response = refused(StatusCode::NOT_FOUND, "not_found", "there is no response");
    response.extensions_mut().insert(NotOurs);
    response
}

/// The caller's own job and its shape.
async fn own(
    runner: &Runner,
    name: &str,
    headers: &HeaderMap,
) -> Result<(Job, Background), Response> {
    let id = job_id(name).ok_or_else(not_ours)?;
    let job = asked(runner.store().get(&id)).await;
    let job = job.map_err(|error| unavailable(&error))?;
    let mut job = job.ok_or_else(not_ours)?;
    let background = job.background.take().ok_or_else(not_ours)?;
    if job.owner != Owner::of(headers) {
        let message = format!("Response with id '{name}' not found.");
        return Err(refused(StatusCode::NOT_FOUND, "not_found", &message));
    }
    Ok((job, background))
}

#[derive(Deserialize)]
struct Asked {
    stream: Option<bool>,
    starting_after: Option<u64>,
}

async fn show(
    State(runner): State<Arc<Runner>>,
    Path(name): Path<String>,
    query: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    page_of(shown(runner, &name, query, &headers)).await
}

/// No page waits for the store longer than once.
async fn page_of(
    told: impl Future<Output = Result<Response, Response>>,
) -> Result<Response, Response> {
    page_within(Duration::ZERO, told, unavailable).await
}

async fn shown(
    runner: Arc<Runner>,
    name: &str,
    query: Result<Query<Asked>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    // First: a name that is not ours goes on to its provider with whatever query it has.
    let (job, background) = own(&runner, name, headers).await?;
    let Query(asked) = query.map_err(|_| {
        let wanted = "the query cannot be read; send stream=true or false, and starting_after as a \
                      whole number";
        refused(StatusCode::BAD_REQUEST, "bad_request", wanted)
    })?;
    if !asked.stream.unwrap_or(false) {
        return told(&runner, &job, &background).await;
    }
    if background.stream {
        return Ok(events::responses(
            runner,
            job,
            background,
            asked.starting_after,
        ));
    }
    let message = "only a response that was created with stream=true can be streamed";
    Err(refused(StatusCode::BAD_REQUEST, "bad_request", message))
}

async fn cancel(
    State(runner): State<Arc<Runner>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    page_of(ended(&runner, &name, &headers)).await
}

async fn ended(
    runner: &Arc<Runner>,
    name: &str,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let (mut job, background) = own(runner, name, headers).await?;
    if !job.status.is_final() {
        let ended = asked(runner.end_for(&job.id, cancelled())).await;
        ended.map_err(|error| unavailable(&error))?;
        // Where it ended meanwhile, that end stands.
        let stands = asked(runner.store().get(&job.id)).await;
        job = stands
            .map_err(|error| unavailable(&error))?
            .ok_or_else(not_ours)?;
    }
    told(runner, &job, &background).await
}

/// The response as it stands.
async fn told(runner: &Runner, job: &Job, background: &Background) -> Result<Response, Response> {
    let answer = if job.status.is_final() {
        let answer = asked(runner.read_answer(&job.id)).await;
        answer.map_err(|error| unavailable(&error))?
    } else {
        None
    };
    if job.status == Status::Succeeded
        && let Some((answer, held)) = answer
    {
        let job = job.clone();
        let (body, answer) = aside(answer, move |answer| finished(&job, answer)).await?;
        return Ok(match body {
            Some(body) => json(holding(body, held)),
            None => replay(answer, held),
        });
    }
    let answer = answer.as_ref().map(|(answer, _held)| answer);
    let body = object(job, background, answer);
    Ok(json(body.to_string().into()))
}

/// Reads an answer; a long one on a thread of its own, so that no call waits for it.
async fn aside(
    answer: StoredAnswer,
    read: impl FnOnce(&StoredAnswer) -> Option<Bytes> + Send + 'static,
) -> Result<(Option<Bytes>, StoredAnswer), Response> {
    if answer.body.len() <= SHORT {
        return Ok((read(&answer), answer));
    }
    let done = tokio::task::spawn_blocking(move || (read(&answer), answer)).await;
    done.map_err(|_| unavailable(&StoreError::Unavailable("the gateway stops".into())))
}

fn json(body: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_store_says_when_to_come_back() {
        let response = unavailable(&StoreError::Silent);
        assert_eq!(response.headers()[RETRY_AFTER], "5");
    }

    #[test]
    fn only_a_name_of_our_form_has_a_page() {
        let name = format!("resp_{}", "a".repeat(32));
        let at = |path: String| page(&path).map(str::to_owned);
        let shown = format!("/responses/{name}");
        assert_eq!(at(format!("/v1/responses/{name}")), Some(shown.clone()));
        assert_eq!(
            at(format!("/openai/v1/responses/{name}")),
            Some(shown.clone())
        );
        assert_eq!(
            at(format!("/v1/responses/{name}/cancel")),
            Some(format!("{shown}/cancel"))
        );
        for other in [
            format!("/v1/responses/{name}aa"),
            format!("/v1/responses/{name}/input_items"),
            format!("/v1/other/{name}"),
            "/v1/responses/resp_1".to_owned(),
            format!("/é{}", "x".repeat(36)),
        ] {
            assert_eq!(at(other.clone()), None, "{other}");
        }
    }
}
