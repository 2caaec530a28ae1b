//! Hands snapshots out: one task makes one a second while somebody listens, all share it.
//!
//! Promises: at most [`LISTENERS`] at once; who reads slowly skips snapshots and piles nothing up;
//! without listeners nothing is done. A store that is slow is asked less often and holds no snapshot
//! up.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::counts::{Counts, Rates};
use super::gather::{self, Stored, stored};
use super::{Gateway, detail};
use crate::cold::history::this_gateway;
use crate::cold::job::UnixMillis;
use crate::observe::admin::{Admin, find};
use crate::tasks::Tasks;

/// Who may listen at once.
const LISTENERS: usize = 16;

/// How often a snapshot is made.
const EVERY: Duration = Duration::from_secs(1);

/// How often the store is asked at most; one that is slow rests so many times what it took.
const ASKED: Duration = Duration::from_secs(2);
const RESTS: u32 = 20;

/// A heatmap goes with every so many details: it changes slowly and is the largest part.
const HEAT_EVERY: u64 = 10;

/// A snapshot, written once for all.
struct Frame {
    json: Bytes,
    /// It is not the first: rates are known.
    whole: bool,
}

/// Where snapshots come from.
pub struct Hub {
    places: Arc<Semaphore>,
    latest: watch::Sender<Option<Arc<Frame>>>,
    /// Whether the task runs.
    running: Mutex<bool>,
    tasks: Tasks,
    started: (UnixMillis, Instant),
}

impl Hub {
    /// A hub whose task these own.
    pub fn new(tasks: Tasks) -> Self {
        Self {
            places: Arc::new(Semaphore::new(LISTENERS)),
            latest: watch::Sender::new(None),
            running: Mutex::new(false),
            tasks,
            started: (UnixMillis::now(), Instant::now()),
        }
    }

    /// Listens from now on; the task runs as long as anybody does.
    fn listen(&self, admin: &Arc<Admin>) -> watch::Receiver<Option<Arc<Frame>>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listener = self.latest.subscribe();
        if *running {
            listener.mark_changed();
        } else {
            *running = true;
            self.latest.send_replace(None);
            listener.mark_unchanged();
            self.tasks.spawn(produce(admin.clone()));
        }
        listener
    }

    /// Ends the task's work where nobody listens any more.
    fn is_deserted(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = self.latest.receiver_count() > 0;
        !*running
    }

    fn listeners(&self) -> usize {
        LISTENERS - self.places.available_permits()
    }
}

/// Asks the store, after a rest.
async fn ask(admin: &Admin, rest: Duration) -> (Stored, Duration) {
    tokio::time::sleep(rest).await;
    let asked = Instant::now();
    let told = stored(admin.runner.store()).await;
    (told, asked.elapsed())
}

async fn produce(admin: Arc<Admin>) {
    let (mut rates, mut known) = (Rates::default(), Stored::default());
    let mut asking = Box::pin(ask(&admin, Duration::ZERO));
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut whole = false;
    loop {
        tokio::select! {
            // Before the first tick the store has its chance to answer.
            biased;
            (told, took) = &mut asking => {
                known = told;
                asking.set(ask(&admin, ASKED.max(took * RESTS)));
            }
            _ = ticks.tick() => {
                if admin.live.is_deserted() {
                    return;
                }
                rates.saw(Instant::now(), Counts::read(&admin.meter.render()));
                let json = snapshot(&admin, &rates, &known);
                let frame = Arc::new(Frame { json, whole });
                admin.live.latest.send_replace(Some(frame));
                whole = true;
            }
        }
    }
}

fn snapshot(admin: &Admin, rates: &Rates, stored: &Stored) -> Bytes {
    let state = admin.gateway.state.load_full();
    let (began, since) = admin.live.started;
    let gateway = Gateway {
        name: this_gateway().to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
        started: gather::seconds(began),
        uptime: since.elapsed().as_secs_f64().round(),
        draining: admin.draining.load(std::sync::atomic::Ordering::Relaxed),
        store_ready: None,
        in_flight: 0,
        tasks: admin.tasks.iter().map(Tasks::alive).sum::<usize>() as u64,
        listeners: admin.live.listeners() as u64,
        listeners_limit: LISTENERS as u64,
    };
    let routes = gather::routes(state.table.routes(), rates);
    json(&gather::snapshot(gateway, routes, stored)).into()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("names and numbers can be written")
}

#[derive(Deserialize)]
pub struct Asked {
    once: Option<bool>,
    route: Option<String>,
}

/// `GET /api/live`.
pub async fn live(
    State(admin): State<Arc<Admin>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Response> {
    if let Some(route) = &asked.route {
        find(&admin, route)?;
    }
    let place = admin.live.places.clone().try_acquire_owned();
    let place = place.map_err(|_| full())?;
    let mut latest = admin.live.listen(&admin);
    if asked.once == Some(true) {
        let whole = |frame: &Option<Arc<Frame>>| frame.as_ref().is_some_and(|frame| frame.whole);
        let frame = latest.wait_for(whole).await.ok();
        let frame = frame.and_then(|frame| frame.clone());
        let json = frame.ok_or_else(|| StatusCode::SERVICE_UNAVAILABLE.into_response())?;
        let head = [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "no-store"),
        ];
        return Ok((head, json.json.clone()).into_response());
    }
    let listener = Listener {
        admin,
        latest,
        route: asked.route,
        told: 0,
        _place: place,
    };
    let events = stream::unfold(listener, |mut listener| async {
        let event = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(event), listener))
    });
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((head, Body::from_stream(events)).into_response())
}

fn full() -> Response {
    let says = format!(
        "{LISTENERS} listen already; close a page or a `shunt top`, or ask with ?once=true later\n"
    );
    let retry = [(RETRY_AFTER, HeaderValue::from_static("5"))];
    (StatusCode::SERVICE_UNAVAILABLE, retry, says).into_response()
}

/// One who listens. Asked for the next event only when the last one was taken.
struct Listener {
    admin: Arc<Admin>,
    latest: watch::Receiver<Option<Arc<Frame>>>,
    route: Option<String>,
    /// Events so far.
    told: u64,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    async fn next(&mut self) -> Option<Bytes> {
        let frame = loop {
            self.latest.changed().await.ok()?;
            let frame = self.latest.borrow_and_update().clone();
            if let Some(frame) = frame {
                break frame;
            }
        };
        let mut event = Vec::with_capacity(frame.json.len() + 64);
        event.extend_from_slice(b"event: snapshot\ndata: ");
        event.extend_from_slice(&frame.json);
        event.extend_from_slice(b"\n\n");
        event.extend_from_slice(self.detail().as_bytes());
        self.told += 1;
        Some(event.into())
    }

    /// The route that it asked for; nothing where a reload took it out.
    fn detail(&self) -> String {
        let mut event = String::new();
        let Some(name) = &self.route else {
            return event;
        };
        if let Ok(route) = find(&self.admin, name) {
            let detail = detail::of(&route, self.told.is_multiple_of(HEAT_EVERY));
            let _ = write!(event, "event: detail\ndata: {}\n\n", json(&detail));
        }
        event
    }
}

/// `GET /api/routes/{name}/heatmap`: both phases.
pub async fn heatmap(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Response, Response> {
    let route = find(&admin, &name)?;
    Ok(axum::Json(detail::heat(&route)).into_response())
}
