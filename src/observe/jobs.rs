//! The operators' jobs API: all callers' jobs, what became of them, and what can be done to them.
//!
//! Promises: shows job objects and histories, never headers, bodies or credentials. An error is
//! one sentence that says what to do.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use crate::cold::filter::{Filter, NoList, listed};
use crate::cold::job::{Job, JobId, Status};
use crate::cold::runner::Runner;
use crate::cold::store::{StoreError, asked};

/// The pages.
pub(super) fn router(runner: Arc<Runner>) -> Router {
    Router::new()
        .route("/api/jobs", get(list))
        .route("/api/callbacks/dead", get(dead))
        .route("/api/jobs/{id}", get(show))
        .route("/api/jobs/{id}/cancel", post(cancel))
        .route("/api/jobs/{id}/retry", post(retry))
        .route("/api/jobs/{id}/replay-callback", post(replay))
        .with_state(runner)
}

fn says(status: StatusCode, sentence: &str) -> Response {
    (status, format!("{sentence}\n")).into_response()
}

fn unavailable(error: &StoreError) -> Response {
    let text = format!("{error}\n");
    let head = [(RETRY_AFTER, "5")];
    (StatusCode::SERVICE_UNAVAILABLE, head, text).into_response()
}

async fn find(runner: &Runner, id: &str) -> Result<Job, Response> {
    let unknown = || {
        let sentence = format!("there is no job `{id}`; list the jobs to see which there are");
        says(StatusCode::NOT_FOUND, &sentence)
    };
    let name = JobId::parse(id).ok_or_else(unknown)?;
    let job = asked(runner.store().get(&name)).await;
    job.map_err(|error| unavailable(&error))?
        .ok_or_else(unknown)
}

async fn list(
    State(runner): State<Arc<Runner>>,
    Query(filter): Query<Filter>,
) -> Result<Response, Response> {
    let bad = |sentence: String| says(StatusCode::BAD_REQUEST, &sentence);
    let query = filter.query(None, 1_000).map_err(bad)?;
    match listed(runner.store(), query).await {
        Ok(page) => Ok(axum::Json(page).into_response()),
        Err(NoList::NoSuchJob(sentence)) => Err(bad(sentence)),
        Err(NoList::Unavailable(error)) => Err(unavailable(&error)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
}

/// Jobs whose callback was given up, the last given up first.
async fn dead(
    State(runner): State<Arc<Runner>>,
    Query(page): Query<Page>,
) -> Result<Response, Response> {
    let limit = page.limit.unwrap_or(20).min(1_000);
    let jobs = asked(runner.store().dead_deliveries(limit)).await;
    let jobs = jobs.map_err(|error| unavailable(&error))?;
    let data: Vec<_> = jobs.iter().map(Job::to_json).collect();
    Ok(axum::Json(json!({"object": "list", "data": data})).into_response())
}

async fn show(
    State(runner): State<Arc<Runner>>,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let job = find(&runner, &id).await?;
    let history = asked(runner.store().history(&job.id)).await;
    let history = history.map_err(|error| unavailable(&error))?;
    let size = asked(runner.store().answer_size(&job.id)).await;
    let size = size.map_err(|error| unavailable(&error))?;
    let mut object = job.to_json();
    object["history"] = json!(history);
    // Of the stored body; sealed it is a few bytes longer.
    object["result_bytes"] = json!(size);
    Ok(axum::Json(object).into_response())
}

fn done(job: Option<Job>, otherwise: &str) -> Result<Response, Response> {
    match job {
        Some(job) => Ok(axum::Json(job.to_json()).into_response()),
        None => Err(says(StatusCode::CONFLICT, otherwise)),
    }
}

async fn cancel(
    State(runner): State<Arc<Runner>>,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let job = find(&runner, &id).await?;
    if job.status.is_final() {
        let status = job.status.as_str();
        return done(
            None,
            &format!("the job is {status} already; there is nothing to cancel"),
        );
    }
    let cancelled = asked(runner.cancel_for_operator(&job.id)).await;
    let cancelled = cancelled.map_err(|error| unavailable(&error))?;
    done(
        cancelled,
        "the job could not be cancelled: it ended meanwhile; show it to see how",
    )
}

async fn retry(
    State(runner): State<Arc<Runner>>,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let job = find(&runner, &id).await?;
    if !job.status.is_final() || job.status == Status::Succeeded {
        let status = job.status.as_str();
        let sentence = format!(
            "the job is {status}; only one that is failed, expired or cancelled runs again"
        );
        return done(None, &sentence);
    }
    let again = runner
        .retry(&job)
        .await
        .map_err(|error| unavailable(&error))?;
    let otherwise =
        "the job cannot run again: its request or its route is gone; send the call anew";
    done(again, otherwise)
}

async fn replay(
    State(runner): State<Arc<Runner>>,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let job = find(&runner, &id).await?;
    let replayed = runner.replay_callback(&job.id).await;
    let replayed = replayed.map_err(|error| unavailable(&error))?;
    let otherwise = "there is nothing to deliver: the job has no callback, is not finished, or its \
                     callback is being delivered at this moment";
    done(replayed, otherwise)
}
