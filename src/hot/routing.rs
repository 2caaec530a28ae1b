//! Finds a call's route, and reads its body where the route or a later step needs it.
//!
//! Promises: the body is read once, within the first candidate's budget and `limits.body`; where a model
//! decides, none passes whose model could not be read; a call that no route takes is told which.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, Method, request};
use hyper::body::Body;
use tokio::time::Instant;

use super::error::Code;
use super::gateway::State;
use super::intake::{Asked, Kept, begin, keep, once};
use super::intent::Intent;
use super::nowhere::{Stray, no_route};
use super::ready::Refusal;
use super::record::Record;
use super::route::Route;
use crate::alarm::Alarm;
use crate::config::{Dialect, Safe, Unasked};
use crate::placed::pinned;
use crate::upstream::inflow::{Fault, Inflow};
use crate::upstream::media::{begins_as_json, is_encoded, is_json};
use crate::upstream::peek::Peek;
use crate::upstream::queue::Queue;

/// A route and the body that told it.
pub(super) type Routed = (Arc<Route>, Kept, Peek, Intent);

/// Finds the route; reads the body where that needs it or a later step will.
pub(super) async fn route(
    state: &State,
    call: &mut Asked,
    arrived: Instant,
) -> Result<(Routed, Duration), Refusal> {
    let first = first(state, call)?;
    let asked = Intent::read(&call.parts.headers);
    let asked = asked.map_err(|why| refuse(&first, arrived, Code::BadRequest, why))?;
    if call.body.as_ref().is_some_and(Inflow::is_too_large) {
        return Err(failed(state, &first, arrived, Fault::TooLarge));
    }
    let json = may_be_json(&call.parts.headers);
    let candidates = || {
        state
            .table
            .candidates(call.parts.uri.path(), &call.parts.headers)
    };
    let by_model = !is_empty(call) && candidates().any(|route| route.reads_model());
    let whole = !call.is_upgrade && wants_body(candidates(), &call.parts, &asked, json);
    let modelled = (first.dialect != Dialect::Plain || by_model) && json;
    let read_here = (whole && modelled) || by_model;
    if read_here && is_encoded(&call.parts.headers) && !is_empty(call) {
        state.refused.encoding.increment(1);
        return Err(refuse(&first, arrived, Code::Encoded, ENCODED.into()));
    }
    if by_model && !json {
        // Boxed, so that calls that say what they are have no room for it.
        pinned(|| look_into(state, call, &first, arrived)).await?;
    }
    if !whole {
        let route = taking(state, call, None, json)?;
        let waited = call.body.as_ref().map_or(Duration::ZERO, Inflow::waited);
        let body = Kept::Once(once(call, Queue::default()));
        return Ok(((route, body, Peek::default(), asked), waited));
    }
    let kept = {
        let keeping = pin!(keep(call, state.limits.body.bytes()));
        until(arrived + first.budget.total.get(), keeping).await
    };
    let kept = kept.ok_or_else(|| late(&first, arrived))?;
    let (kept, waited) = kept.map_err(|fault| failed(state, &first, arrived, fault))?;
    if by_model && json && matches!(kept, Kept::Once(_)) {
        return Err(unread(state, &first, arrived));
    }
    let peek = match &kept {
        Kept::Whole(data, _) if modelled && !data.is_empty() => {
            let peek = Peek::read(data);
            peek.map_err(|why| refuse(&first, arrived, Code::BadRequest, why))?
        }
        _ => Peek::default(),
    };
    let route = taking(state, call, peek.model.as_deref(), json)?;
    Ok(((route, kept, peek, asked), waited))
}

/// Looks how a body begins that is not called JSON where a model decides. Refused where a server could read
/// it as JSON all the same, and with it a model that the gateway did not.
async fn look_into(
    state: &State,
    call: &mut Asked,
    first: &Arc<Route>,
    arrived: Instant,
) -> Result<(), Refusal> {
    let read = until(arrived + first.budget.total.get(), pin!(begin(call))).await;
    let read = read.ok_or_else(|| late(first, arrived))?;
    read.map_err(|fault| failed(state, first, arrived, fault))?;
    let route = taking(state, call, None, false)?;
    if !call.begun.is_empty() && begins_as_json(&call.begun) {
        return Err(refuse(&route, arrived, Code::NotJson, NOT_JSON.into()));
    }
    Ok(())
}

/// The first route that a call's head fits.
fn first(state: &State, call: &Asked) -> Result<Arc<Route>, Refusal> {
    let (path, headers) = (call.parts.uri.path(), &call.parts.headers);
    let first = state.table.candidates(path, headers).next().cloned();
    first.ok_or_else(|| no_route(state, path, headers, Stray::Path))
}

/// The route that takes a call.
fn taking(
    state: &State,
    call: &Asked,
    model: Option<&str>,
    json: bool,
) -> Result<Arc<Route>, Refusal> {
    let (path, headers) = (call.parts.uri.path(), &call.parts.headers);
    let route = state.table.taking(path, headers, model).cloned();
    route.ok_or_else(|| {
        // One that asks for another protocol has no body to name a model in.
        let stray = if call.is_upgrade {
            Stray::Path
        } else {
            Stray::of(model, json)
        };
        no_route(state, path, headers, stray)
    })
}

fn refuse(route: &Arc<Route>, arrived: Instant, code: Code, why: String) -> Refusal {
    let record = Record::new(route.clone(), arrived, false);
    Refusal::of(route, record, (code, why))
}

/// Refuses a call whose body failed.
fn failed(state: &State, first: &Arc<Route>, arrived: Instant, fault: Fault) -> Refusal {
    let code = fault_code(state, fault);
    refuse(first, arrived, code, fault.to_string())
}

/// Refuses a call whose body is awaited in vain.
fn late(first: &Arc<Route>, arrived: Instant) -> Refusal {
    let why = "the body did not arrive in time";
    refuse(first, arrived, Code::BadRequest, why.into())
}

/// Refuses a call whose body is too long to find its model.
fn unread(state: &State, first: &Arc<Route>, arrived: Instant) -> Refusal {
    let why = format!(
        "the call's model decides where it goes, and its body is longer than limits.body ({}), up to \
         which it is read; send less, or raise the limit",
        state.limits.body
    );
    refuse(first, arrived, Code::BodyTooLarge, why)
}

fn is_empty(call: &Asked) -> bool {
    call.body.as_ref().is_none_or(Body::is_end_stream)
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
        let modelled = route.reads_model() || route.dialect != Dialect::Plain;
        (modelled && json)
            || route.hedge.safe == Safe::Always
            || route.over_budget.unasked == Unasked::SeeOther
    })
}

/// Said where a compressed body would have to be read. The gateway unpacks nothing, so that a small
/// body cannot become a large one in it.
const ENCODED: &str = "this route reads the call's JSON, and the body has a Content-Encoding; the \
                       gateway does not decompress: send it as it is";

/// Said where a body would be read as JSON by some servers, and by others as what it is called.
const NOT_JSON: &str = "this route reads the call's JSON, and the body begins as JSON that is called \
                        otherwise; send Content-Type: application/json";

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
async fn until<F: Future>(end: Instant, mut future: Pin<&mut F>) -> Option<F::Output> {
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
