//! The API of scopes: `GET /scopes/{scope}` lists what runs in one, `DELETE` cancels all of it
//! (section 6 of the contract).
//!
//! Promises: a caller sees and cancels only its own calls; hot calls and jobs alike. Who carries no
//! credentials is told that jobs run, and not which: a scope's name can be guessed, a job's id cannot.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::gateway::State;
use super::scope::{Closed, Scope, Scopes, is_name};
use crate::cold::door::Door;
use crate::cold::job::{Job, Owner};
use crate::cold::store::StoreError;
use crate::problem::{Named, problem, wrong_method};

struct Desk {
    scopes: Arc<Scopes>,
    door: Door,
    state: Arc<ArcSwap<State>>,
}

/// The pages.
pub fn router(scopes: Arc<Scopes>, door: Door, state: Arc<ArcSwap<State>>) -> Router {
    let desk = Desk {
        scopes,
        door,
        state,
    };
    Router::new()
        .route("/scopes/{scope}", get(show).delete(cancel))
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::new(desk))
}

fn named(name: &str) -> Result<(), Response> {
    let why = "a scope's name is 1 to 128 visible ASCII characters without a slash";
    let refused = || problem(StatusCode::BAD_REQUEST, "bad_request", why);
    is_name(name).then_some(()).ok_or_else(refused)
}

fn unavailable(why: &StoreError) -> Response {
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        &why.to_string(),
    )
}

async fn show(
    Shared(desk): Shared<Arc<Desk>>,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<Response, Response> {
    named(&name)?;
    let owner = Owner::of(&headers);
    let jobs = desk.door.jobs_of(owner, &name).await;
    let jobs = jobs.map_err(|why| unavailable(&why))?;
    let scope = desk.scopes.get(owner, &name);
    if scope.is_none() && jobs.is_empty() {
        let why = "there is no such scope, or it is not yours";
        return Err(problem(StatusCode::NOT_FOUND, "no_scope", why));
    }
    let jobs: Vec<_> = jobs.iter().map(|job| shown(job, owner)).collect();
    Ok(axum::Json(told(&name, scope.as_deref(), &jobs)).into_response())
}

/// A job as its scope's page shows it.
fn shown(job: &Job, owner: Owner) -> Value {
    if owner == Owner::ANYONE {
        return json!({"object": "job", "status": job.status, "route": job.route});
    }
    job.to_json()
}

fn told(name: &str, scope: Option<&Scope>, jobs: &[Value]) -> Value {
    let now = Instant::now();
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let calls: Vec<Value> = scope
        .map(Scope::members)
        .unwrap_or_default()
        .iter()
        .map(|member| {
            json!({
                "request_id": member.request.to_str().unwrap_or_default(),
                "route": &*member.route,
                "elapsed_ms": millis(now.saturating_duration_since(member.arrived)),
            })
        })
        .collect();
    let cancelled = scope.is_some_and(Scope::is_cancelled);
    json!({
        "id": name,
        "object": "scope",
        "status": if cancelled { "cancelled" } else { "open" },
        "remaining_ms": scope.and_then(|scope| scope.left(now)).map(millis),
        "calls": calls,
        "jobs": jobs,
    })
}

async fn cancel(
    Shared(desk): Shared<Arc<Desk>>,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<Response, Response> {
    named(&name)?;
    let owner = Owner::of(&headers);
    let most = desk.state.load().limits.scopes;
    let calls = desk.scopes.cancel(owner, &name, most);
    // Its jobs end even where later calls cannot be refused.
    let jobs = desk.door.cancel_all(owner, &name).await;
    let jobs = jobs.map_err(|why| unavailable(&why))?;
    let calls = calls.map_err(|_: Closed| {
        let why = format!(
            "there are too many scopes already (limits.scopes is {most}); try again when some rest"
        );
        problem(StatusCode::SERVICE_UNAVAILABLE, "overloaded", &why)
    })?;
    let told = json!({"id": name, "object": "scope", "status": "cancelled",
        "cancelled": {"calls": calls, "jobs": jobs}});
    Ok(axum::Json(told).into_response())
}
