//! What would become of a call: which route takes it, on which terms, and why.
//!
//! The call goes over a pipe in memory to the gateway's own code, from its parser to `ready`: what
//! is told of it is what happens to it. Sends nothing, opens no socket, runs no race.

mod text;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::budget::Deadline;
use super::call::is_own;
use super::entry;
use super::error::Code;
use super::gateway::State;
use super::intake::{Asked, Kept};
use super::intent::Intent;
use super::ready::terms;
use super::route::Route;
use super::routing;
use crate::cold::door::Door;
use crate::upstream::inflow::Inflow;
use crate::upstream::peek::Peek;

/// A call that a route takes; its `Display` tells all of it.
pub struct Plan {
    method: Method,
    path: PathAndQuery,
    /// The path as the targets get it, before a provider's own.
    inner: PathAndQuery,
    route: Arc<Route>,
    /// Routes that were asked before, and what kept each from taking the call.
    passed: Vec<(Arc<str>, String)>,
    intent: Intent,
    peek: Peek,
    deadline: Deadline,
    safe: bool,
    kept: bool,
    is_upgrade: bool,
}

/// Why a call goes no further than its route.
#[derive(Debug)]
pub struct Turned {
    /// The status that it gets.
    pub status: StatusCode,
    /// The code of the error.
    pub code: &'static str,
    /// What its caller is told.
    pub message: String,
    /// Each route with what keeps it from taking the call, where none does.
    pub passed: Vec<(Arc<str>, String)>,
}

impl Turned {
    fn of((code, message): (Code, String)) -> Self {
        Self {
            status: code.status(),
            code: code.as_str(),
            message,
            passed: Vec::new(),
        }
    }
}

/// Bytes that wait in the pipe.
const PIPE: usize = 64 << 10;

/// What would become of a call; `None`: the gateway answers it itself.
///
/// # Errors
/// What its caller is told, where it is refused.
pub async fn explain(
    state: Arc<State>,
    door: &Door,
    request: Request<Bytes>,
) -> Result<Option<Plan>, Turned> {
    if is_own(request.uri().path()) {
        return Ok(None);
    }
    let (head, body) = (without_body(&request), request.body().clone());
    let found = Mutex::new(None);
    let serve = service_fn(async |received: Request<Incoming>| {
        let looked = look(&state, door, received).await;
        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(looked);
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(ours), serve);
    let sent = async {
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(theirs)).await?;
        let answer = sender.send_request(request.map(Full::new));
        // Whichever ends first: the answer is there, or it never will be.
        tokio::select! {
            answer = answer => answer.map(drop),
            ended = driver => ended,
        }
    };
    let unread = tokio::select! {
        sent = sent => sent.err(),
        served = served => served.err(),
    };
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    match found {
        Some(Ok(plan)) => Ok(Some(plan)),
        Some(Err(mut turned)) => {
            if turned.code == Code::NoRoute.as_str() {
                turned.passed = passed(&state, &head, Peek::read(&body).ok().as_ref(), None);
            }
            Err(turned)
        }
        None => {
            let why = unread.map_or_else(String::new, |why| format!(": {why}"));
            Err(Turned::of((
                Code::BadRequest,
                format!("no HTTP server could read the call{why}"),
            )))
        }
    }
}

fn without_body(request: &Request<Bytes>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.headers_mut() = request.headers().clone();
    head
}

/// The gateway's own way from a call's head to its terms.
async fn look(state: &Arc<State>, door: &Door, request: Request<Incoming>) -> Result<Plan, Turned> {
    let is_upgrade = entry::check(&request, state).map_err(Turned::of)?;
    let (parts, body) = request.into_parts();
    let mut asked = Asked {
        parts,
        body: Some(Inflow::new(body, &state.limits.caller)),
        begun: Bytes::new(),
        is_upgrade,
    };
    let routed = routing::route(state, &mut asked, Instant::now()).await;
    let ((route, kept, peek, intent), _) =
        routed.map_err(|refusal| Turned::of((refusal.code, refusal.message)))?;
    let bad = |why| Turned::of((Code::BadRequest, why));
    if let Some(url) = &intent.callback {
        door.check_callback(url).map_err(bad)?;
    }
    let parts = asked.parts;
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let inner = route.inner_path(path.as_str()).parse::<PathAndQuery>();
    let inner = inner.map_err(|why| bad(format!("the path is not valid: {why}")))?;
    let (deadline, safe) = terms(
        state,
        &route,
        &parts.method,
        inner.path(),
        &kept,
        &peek,
        &intent,
    );
    let head = Request::from_parts(parts, ());
    Ok(Plan {
        passed: passed(state, &head, Some(&peek), Some(&route)),
        method: head.method().clone(),
        path,
        inner,
        route,
        intent,
        peek,
        deadline,
        safe,
        kept: matches!(kept, Kept::Whole(..)),
        is_upgrade,
    })
}

/// The routes that are asked before this one, or all, and why each does not take the call.
fn passed<B>(
    state: &State,
    head: &Request<B>,
    peek: Option<&Peek>,
    before: Option<&Arc<Route>>,
) -> Vec<(Arc<str>, String)> {
    let (path, headers): (&str, &HeaderMap) = (head.uri().path(), head.headers());
    let model = peek.and_then(|peek| peek.model.as_deref());
    let routes = state.table.routes().iter();
    routes
        .take_while(|route| before.is_none_or(|before| !Arc::ptr_eq(route, before)))
        .filter_map(|route| Some((route.name.clone(), route.why_not(path, headers, model)?)))
        .collect()
}

#[cfg(test)]
mod tests;
