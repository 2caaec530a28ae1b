//! The admin listener's pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::live::{self, Hub};
use super::store::{Told, ask};
use super::{histograms, jobs as jobs_api, origin, page, process, protobuf, report};
use crate::auth::Token;
use crate::cold::job::Status;
use crate::cold::runner::Runner;
use crate::cold::store::asked;
use crate::config::Period;
use crate::hot::{Gateway, Route};
use crate::latency::Window;
use crate::meter::Meter;
use crate::tasks::Tasks;

/// What operators may look at.
pub struct Admin {
    /// What operators have to send; none: nothing.
    pub token: Option<Token>,
    /// Only names of loopback may be asked.
    pub local: bool,
    /// Metrics.
    pub meter: Arc<Meter>,
    /// Routes.
    pub gateway: Arc<Gateway>,
    /// Jobs.
    pub runner: Arc<Runner>,
    /// The gateway takes no new calls.
    pub draining: Arc<AtomicBool>,
    /// Whose tasks are counted.
    pub tasks: Vec<Tasks>,
    /// Who watches, and what they are shown.
    pub live: Hub,
}

/// Said where there is no page: mostly an app has the wrong port.
const NO_PAGE: &str = "there is no such page: this is the admin listener; apps use the public one \
                       (listen.public). / shows the gateway, /metrics and /api/routes tell of it\n";

/// The pages.
pub fn router(admin: Arc<Admin>) -> Router {
    let jobs = jobs_api::router(admin.runner.clone());
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/api/live", get(live::live))
        .route("/api/routes", get(routes))
        .route("/api/routes/{name}/heatmap", get(live::heatmap))
        .route("/api/routes/{name}/what-if", get(what_if))
        .route("/api/routes/{name}/histogram.hgrm", get(histogram))
        .route("/", get(page::index))
        .route("/page/{*name}", get(page::part))
        .fallback(async || (StatusCode::NOT_FOUND, NO_PAGE))
        .with_state(admin.clone())
        .merge(jobs)
        .layer(from_fn_with_state(admin, guard))
}

/// Lets operators in, and no foreign page through their browsers. What an orchestrator probes is open;
/// without the token it tells no more than its status.
async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if let Some(why) = origin::refuses(&request, admin.local) {
        return why.into_response();
    }
    let token = admin.token.as_ref();
    if token.is_none_or(|token| token.is_in(request.headers())) {
        return next.run(request).await;
    }
    match request.uri().path() {
        "/healthz" => next.run(request).await,
        "/readyz" => next.run(request).await.status().into_response(),
        "/" => page::asks(),
        path if page::is_part(path) => next.run(request).await,
        _ => {
            let says = "send the admin token as Authorization: Bearer TOKEN; `shunt jobs` takes it \
                        from --admin-token-env\n";
            (
                StatusCode::UNAUTHORIZED,
                [(WWW_AUTHENTICATE, "Bearer")],
                says,
            )
                .into_response()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scrape {
    /// A scraper that takes native histograms leaves classic ones out unless it is told otherwise, and
    /// rules that ask for those fall silent: so it has to ask.
    #[serde(default)]
    native_histograms: bool,
}

async fn metrics(
    State(admin): State<Arc<Admin>>,
    Query(scrape): Query<Scrape>,
    headers: HeaderMap,
) -> Response {
    let alive: usize = admin.tasks.iter().map(Tasks::alive).sum();
    admin.meter.gauge("shunt_tasks", &[]).set(alive as f64);
    stored(&admin, &ask(admin.runner.store()).await);
    for provider in admin.gateway.state.load().table.providers() {
        super::quota::show(provider, &admin.meter);
    }
    slow(&admin);
    let (mut text, counted) = histograms::render(&admin.meter);
    text.push('\n');
    process::render(&mut text);
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if scrape.native_histograms && accept.is_some_and(protobuf::is_wanted) {
        let bytes = protobuf::render(&text, &counted);
        return ([(CONTENT_TYPE, protobuf::CONTENT_TYPE)], bytes).into_response();
    }
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// Sets how slow each target is, once that is known of it.
fn slow(admin: &Admin) {
    for route in admin.gateway.state.load().table.routes() {
        for target in route.targets.all() {
            if let Some(seconds) = target.load.seconds() {
                let labels = [("route", &*route.name), ("target", &*target.label)];
                let name = "shunt_target_average_first_token_seconds";
                admin.meter.gauge(name, &labels).set(seconds);
            }
        }
    }
}

/// Sets what only the store knows. A status without jobs is 0, not the last count.
fn stored(admin: &Admin, told: &Told) {
    let ready = if told.ready { 1.0 } else { 0.0 };
    admin.meter.gauge("shunt_store_ready", &[]).set(ready);
    if let Some(dead) = told.dead {
        let gauge = admin.meter.gauge("shunt_callbacks_dead", &[]);
        gauge.set(dead as f64);
    }
    for route in admin.gateway.state.load().table.routes() {
        if let Some(counts) = &told.counts {
            jobs(admin, &route.name, counts);
        }
        if let Some(oldest) = &told.oldest {
            let since = oldest.iter().find(|(name, _)| **name == *route.name);
            let waited = since.map_or(Duration::ZERO, |(_, since)| since.until(told.at));
            let labels = [("route", &*route.name)];
            let name = "shunt_job_oldest_queued_seconds";
            admin.meter.gauge(name, &labels).set(waited.as_secs_f64());
        }
    }
}

fn jobs(admin: &Admin, route: &str, counts: &[(String, Status, u64)]) {
    for status in Status::ALL {
        let count = counts
            .iter()
            .find(|(name, of, _)| **name == *route && of == status)
            .map_or(0, |(_, _, count)| *count);
        let labels = [("route", route), ("status", status.as_str())];
        admin.meter.gauge("shunt_jobs", &labels).set(count as f64);
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    match asked(admin.runner.store().ready()).await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            let says = format!("not ready: cold.store: {error}\n");
            (StatusCode::SERVICE_UNAVAILABLE, says).into_response()
        }
    }
}

async fn routes(State(admin): State<Arc<Admin>>) -> Response {
    let state = admin.gateway.state.load_full();
    let routes: Vec<_> = state
        .table
        .routes()
        .iter()
        .map(|one| report::route(one))
        .collect();
    axum::Json(json!({ "routes": routes })).into_response()
}

pub(super) fn find(admin: &Admin, name: &str) -> Result<Arc<Route>, Response> {
    let state = admin.gateway.state.load_full();
    let found = state
        .table
        .routes()
        .iter()
        .find(|route| &*route.name == name)
        .cloned();
    found.ok_or_else(|| {
        let says = format!("there is no route `{name}`; see /api/routes\n");
        (StatusCode::NOT_FOUND, says).into_response()
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Budgets {
    first_token: Option<String>,
    total: Option<String>,
}

async fn what_if(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Query(budgets): Query<Budgets>,
) -> Result<Response, Response> {
    let route = find(&admin, &name)?;
    let period = |text: Option<String>| match text {
        None => Ok(None),
        Some(text) => text.parse::<Period>().map(|period| Some(period.get())),
    };
    let bad = |why: String| (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response();
    let first_token = period(budgets.first_token).map_err(bad)?;
    let total = period(budgets.total).map_err(bad)?;
    Ok(axum::Json(report::what_if(&route, first_token, total)).into_response())
}

async fn histogram(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Response, Response> {
    let route = find(&admin, &name)?;
    let text = route.meter.total.views().window(Window::Hour).hgrm();
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
