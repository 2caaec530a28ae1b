//! Finds a call's route, and reads its body where the route or a later step needs it.
//!
//! Promises: the body is read once, within the first candidate's budget and `limits.body`; a call
//! that no route takes is told which.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, Method, request};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::call::State;
use super::error::Code;
use super::intake::{Kept, keep};
use super::intent::Intent;
use super::nowhere::{Stray, no_route};
use super::ready::Refusal;
use super::record::Record;
use super::route::Route;
use crate::alarm::Alarm;
use crate::config::{Dialect, Safe, Unasked};
use crate::upstream::body::OutBody;
use crate::upstream::inflow::{Fault, Inflow};
use crate::upstream::media::is_json;
use crate::upstream::peek::Peek;
use crate::upstream::queue::Queue;

/// A route and the body that told it.
pub(super) type Routed = (Arc<Route>, Kept, Peek, Intent);

/// Finds the route; reads the body where that needs it or a later step will.
pub(super) async fn route(
    state: &Arc<State>,
    parts: &request::Parts,
    body: Inflow<Incoming>,
    arrived: Instant,
    is_upgrade: bool,
) -> Result<(Routed, Duration), Refusal> {
    let path = parts.uri.path();
    // Gone through again rather than kept: a route is asked in a few instructions.
    let candidates = || state.table.candidates(path, &parts.headers);
    let Some(first) = candidates().next() else {
        return Err(no_route(state, path, &parts.headers, Stray::Path));
    };
    let stray = |stray| no_route(state, path, &parts.headers, stray);
    let refuse = |code, message| {
        let record = Record::new(first.clone(), arrived, false);
        Refusal::of(first, record, (code, message))
    };
    let asked = Intent::read(&parts.headers).map_err(|why| refuse(Code::BadRequest, why))?;
    if body.is_too_large() {
        let fault = Fault::TooLarge;
        return Err(refuse(fault_code(state, fault), fault.to_string()));
    }
    let json = may_be_json(&parts.headers);
    if is_upgrade || !wants_body(candidates(), parts, &asked, json) {
        let body = Kept::Once(OutBody::streamed(Queue::default(), body));
        let route = state.table.taking(path, &parts.headers, None);
        // One that asks for another protocol has no body to name a model in.
        let why = if is_upgrade {
            Stray::Path
        } else {
            Stray::of(None, json)
        };
        let route = route.ok_or_else(|| stray(why))?;
        return Ok((
            (route.clone(), body, Peek::default(), asked),
            Duration::ZERO,
        ));
    }
    let modelled = first.dialect != Dialect::Plain || candidates().any(|route| route.wants_model());
    let modelled = modelled && json;
    if modelled && is_encoded(&parts.headers) && !body.is_end_stream() {
        state.refused.encoding.increment(1);
        return Err(refuse(Code::Encoded, ENCODED.into()));
    }
    let longest = first.budget.total.get();
    let kept = until(arrived + longest, keep(body, state.limits.body.bytes())).await;
    let (kept, waited) = kept
        .ok_or_else(|| refuse(Code::BadRequest, "the body did not arrive in time".into()))?
        .map_err(|fault| refuse(fault_code(state, fault), fault.to_string()))?;
    let peek = match &kept {
        Kept::Whole(data, _) if modelled && !data.is_empty() => {
            Peek::read(data).map_err(|why| refuse(Code::BadRequest, why))?
        }
        _ => Peek::default(),
    };
    let model = peek.model.as_deref();
    let route = state.table.taking(path, &parts.headers, model);
    let route = route.ok_or_else(|| stray(Stray::of(model, json)))?;
    Ok(((route.clone(), kept, peek, asked), waited))
}

/// Whether the body has to be read before the call can go on.
fn wants_body<'a>(
    mut candidates: impl Iterator<Item = &'a Arc<Route>>,
    parts: &request::Parts,
    intent: &Intent,
    json: bool,
) -> bool {
    let asked = intent.respond_async || intent.key.is_some();
    if parts.method == Method::GET || parts.method == Method::HEAD || asked {
        return true;
    }
    if intent.retry.is_some() && json {
        return true;
    }
    candidates.any(|route| {
        let modelled = route.wants_model() || route.dialect != Dialect::Plain;
        (modelled && json)
            || route.hedge.safe == Safe::Always
            || route.over_budget.unasked == Unasked::SeeOther
    })
}

/// Said where a compressed body would have to be read. The gateway unpacks nothing, so that a small
/// body cannot become a large one in it.
const ENCODED: &str = "this route reads the call's JSON, and the body has a Content-Encoding; the \
                       gateway does not decompress: send it as it is";

fn is_encoded(headers: &HeaderMap) -> bool {
    let plain = |line: &http::HeaderValue| line.as_bytes().eq_ignore_ascii_case(b"identity");
    let lines = headers.get_all(http::header::CONTENT_ENCODING);
    lines.iter().any(|line| !plain(line))
}

/// What a call is told whose body failed; counted.
pub(super) fn fault_code(state: &State, fault: Fault) -> Code {
    match fault {
        Fault::Broken => Code::BadRequest,
        Fault::TooSlow => {
            state.refused.body_slow.increment(1);
            Code::BodyTooSlow
        }
        Fault::TooLarge => {
            state.refused.upload.increment(1);
            Code::BodyTooLarge
        }
    }
}

/// What comes of a future by then; `None`: nothing. One that is ready at once costs no timer, and
/// most bodies come with their heads.
async fn until<F: Future>(end: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut alarm = None;
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        let alarm = alarm.get_or_insert_with(|| Alarm::new(end));
        alarm.poll(context).map(|()| None)
    })
    .await
}

fn may_be_json(headers: &HeaderMap) -> bool {
    // Without a type it may be JSON: the body will tell.
    is_json(headers).unwrap_or(true)
}
