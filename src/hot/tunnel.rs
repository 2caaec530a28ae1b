//! Upgraded connections (WebSocket): bytes in both directions until one side ends.
//!
//! Promises: tunnels are counted and bounded; each is a task that a drain waits for; when one
//! side closes, the other is closed.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::budget::Then;
use super::demote;
use super::error::Code;
use super::gateway::{Gateway, State};
use super::pipeline;
use super::ready::{Ready, Refusal};
use super::relay::{AnswerBody, came_to};
use super::scope::Membership;
use crate::auth::Admission;
use crate::journal::timeline::Kind;
use crate::meter::Outcome;
use crate::tasks::Tasks;
use crate::upstream::body::OutBody;
use crate::upstream::passing::keep_what_passes;
use crate::upstream::refusal::retryable;
use crate::upstream::target::Target;

/// Whether a request asks for another protocol.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let asks = |line: &http::HeaderValue| {
        line.as_bytes()
            .to_ascii_lowercase()
            .windows(7)
            .any(|part| part == b"upgrade")
    };
    headers.contains_key(UPGRADE)
        && headers.get_all(CONNECTION).iter().any(asks)
        && !headers.get_all(UPGRADE).iter().any(is_http)
}

/// Whether HTTP itself is asked for: a tunnel with HTTP/2 in it would carry calls past the gateway.
fn is_http(line: &http::HeaderValue) -> bool {
    let line = line.as_bytes().to_ascii_lowercase();
    let has = |wanted: &[u8]| line.windows(wanted.len()).any(|part| part == wanted);
    has(b"h2") || has(b"http/") || has(b"tls/")
}

/// Tunnels open in one worker.
#[derive(Default)]
pub struct Tunnels(Arc<AtomicUsize>);

/// One of them.
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tunnels {
    /// A place for one more, or none.
    pub fn enter(&self, limit: usize) -> Option<Place> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= limit {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(self.0.clone()))
    }
}

/// Joins both sides once both have switched.
fn join<B>(
    tasks: &Tasks,
    caller: OnUpgrade,
    provider: Response<B>,
    place: Place,
    held: (Option<Arc<Membership>>, Option<Admission>),
) where
    B: Send + 'static,
{
    let provider = hyper::upgrade::on(provider);
    tasks.spawn(async move {
        let (scope, _admission) = held;
        let _place = place;
        let (Ok(caller), Ok(provider)) = tokio::join!(caller, provider) else {
            return;
        };
        let (mut caller, mut provider) = (TokioIo::new(caller), TokioIo::new(provider));
        let joined = tokio::io::copy_bidirectional(&mut caller, &mut provider);
        match scope {
            None => drop(joined.await),
            Some(scope) => drop(pipeline::unless_cancelled(&scope, joined).await),
        }
    });
}

/// What a target says to a request for another protocol, on a connection of its own.
async fn asked(
    target: &Target,
    mut request: Request<OutBody>,
    path: &PathAndQuery,
    connect: Duration,
) -> Result<Response<Incoming>, String> {
    let provider = &target.provider;
    let mut lease = provider.tunnels().checkout(connect).await;
    let lease = lease.as_mut().map_err(|error| error.to_string())?;
    if lease.is_http2() {
        let name = &provider.name;
        return Err(format!(
            "a tunnel needs HTTP/1.1, and providers.{name}.protocol is http2; set it to auto"
        ));
    }
    let path = provider.path(path);
    *request.uri_mut() = path
        .and_then(|path| provider.uri(path, false))
        .map_err(|error| error.to_string())?;
    lease.send(request).await.map_err(|error| error.to_string())
}

/// Opens a tunnel for a call that asks for another protocol.
pub(super) async fn open(
    gateway: &Gateway,
    tunnels: &Tunnels,
    state: &State,
    mut ready: Box<Ready>,
) -> Result<Response<AnswerBody>, Refusal> {
    let began = Instant::now();
    let target = ready.route.targets.first(began).clone();
    let Some(place) = tunnels.enter(state.limits.tunnels) else {
        target.health.given_up(began);
        let why = "as many tunnels are open as limits.tunnels allows".to_owned();
        return Err(ready.refuse(Code::Overloaded, why));
    };
    let mut request = target.request(&ready.call, Some(OutBody::kept(Bytes::new())));
    for name in [CONNECTION, UPGRADE] {
        for value in ready
            .switched
            .iter()
            .flat_map(|headers| headers.get_all(&name))
        {
            request.headers_mut().append(&name, value.clone());
        }
    }
    let headers = request.headers_mut();
    ready.record.attempts(&target, Kind::First, began, headers);
    let connect = ready.route.budget.connect.get();
    let ended = {
        let mut sent = pin!(asked(&target, request, &ready.call.path, connect));
        let ended = timeout(ready.deadline.budget, &mut sent).await;
        match (ended, ready.deadline.then) {
            (Err(_), Then::GoOn(action)) => {
                ready.record.went_over(action);
                Ok(sent.await)
            }
            (ended, _) => ended,
        }
    };
    let provider = match ended {
        Ok(Ok(response)) => response,
        Ok(Err(why)) => {
            // It may have been picked to be probed: that place is free again.
            target.health.given_up(began);
            if let Some(timeline) = ready.record.timeline() {
                timeline.failed(0, None, "connect", Instant::now());
            }
            return Err(ready.refuse(Code::ProviderUnreachable, why));
        }
        Err(_) => {
            target.health.given_up(began);
            ready.record.misses(ready.deadline);
            return Err(demote::too_slow(ready));
        }
    };
    if retryable(provider.status().as_u16()) {
        target.health.given_up(began);
    } else {
        target.health.succeeded(began);
    }
    ready.record.waited_for_provider(began.elapsed());
    if let Some(timeline) = ready.record.timeline() {
        let now = Instant::now();
        timeline.won(0, Some(provider.status().as_u16()), Some(now), now);
    }
    ready
        .record
        .answers(Some(target), provider.status().as_u16());
    if provider.status() != StatusCode::SWITCHING_PROTOCOLS {
        let outcome = came_to(provider.status().as_u16(), false);
        ready.record.finish(outcome);
        // Its body goes with its head: the head tells the caller how long it is.
        let mut response = provider.map(|body| AnswerBody::Api(axum::body::Body::new(body)));
        keep_what_passes(response.headers_mut());
        return Ok(response);
    }
    let mut response = Response::new(AnswerBody::Own(None));
    *response.status_mut() = provider.status();
    *response.headers_mut() = provider.headers().clone();
    let admission = ready.record.take_admission();
    ready.record.finish(Outcome::Served);
    if let Some(caller) = ready.upgrade {
        let held = (ready.scope, admission);
        join(&gateway.tasks, caller, provider, place, held);
    }
    Ok(response)
}
