//! The way of one call through the gateway, from its head to the head of its answer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, request};
use hyper::body::Incoming;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt;

use super::answer::{REQUEST_ID, refuse, request_id};
use super::budget::{Deadline, deadline};
use super::error::{self, Code};
use super::headers::towards_the_provider;
use super::intake::{Kept, keep};
use super::intent::Intent;
use super::pipeline;
use super::record::Record;
use super::relay::AnswerBody;
use super::responses;
use super::route::{Route, Table};
use super::run::run;
use super::safe::is_safe;
use super::scope::{Membership, Scopes};
use super::scopes;
use super::share::{self, Joined, Place, Shares, follow, lead};
use super::tunnel::{self, Tunnels};
use super::twin::{Twin, twin};
use crate::cold::door::Door;
use crate::cold::recall::CallKey;
use crate::config::{Dialect, Limits, Safe};
use crate::meter::Said;
use crate::tasks::Tasks;
use crate::upstream::body::OutBody;
use crate::upstream::media::is_json;
use crate::upstream::peek::Peek;
use crate::upstream::queue::Queue;
use crate::upstream::target::Call;

/// What a configuration became; exchanged as a whole by a reload.
pub struct State {
    /// Its routes.
    pub table: Table,
    /// Its bounds.
    pub limits: Limits,
    /// The hand-off starts this long before the deadline.
    pub margin: Duration,
}

/// What all workers share.
pub struct Gateway {
    /// The configuration in force.
    pub state: Arc<ArcSwap<State>>,
    /// The way to the cold side.
    pub door: Door,
    /// The APIs of jobs and scopes.
    pub(super) api: axum::Router,
    /// Calls that may be joined.
    pub shares: Shares,
    /// Pipelines of calls.
    pub scopes: Arc<Scopes>,
    /// Owner of tunnels, and of calls that outlive their first caller.
    pub tasks: Tasks,
}

impl Gateway {
    /// A gateway; `jobs` is the API of jobs, `tasks` owns what outlives its first caller.
    pub fn new(state: State, door: Door, jobs: axum::Router, tasks: Tasks) -> Self {
        let state = Arc::new(ArcSwap::from_pointee(state));
        let scopes = Arc::new(Scopes::default());
        let api = scopes::router(scopes.clone(), door.clone(), state.clone());
        Self {
            state,
            door,
            api: jobs.merge(api),
            shares: Shares::default(),
            scopes,
            tasks,
        }
    }
}

/// One of the threads that serve calls.
pub struct Worker {
    index: usize,
    gateway: Arc<Gateway>,
    tunnels: Tunnels,
}

/// A call that is refused, and how that is counted.
pub(super) struct Refusal {
    pub dialect: Dialect,
    pub code: Code,
    pub message: String,
    pub record: Option<Record>,
}

/// A call that is understood and has a route.
pub(super) struct Ready {
    pub route: Arc<Route>,
    pub record: Record,
    pub intent: Intent,
    pub deadline: Deadline,
    pub arrived: Instant,
    pub call: Call,
    pub body: Option<OutBody>,
    pub safe: bool,
    /// What was predicted of it, where its caller asked for a 202.
    pub said: Option<Said>,
    /// The caller's headers, where it asks for another protocol.
    pub switched: Option<HeaderMap>,
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
    /// Its `Idempotency-Key`.
    pub key: Option<CallKey>,
    /// Its pipeline.
    pub scope: Option<Arc<Membership>>,
}

impl Ready {
    /// Refuses the call.
    pub fn refuse(self: Box<Self>, code: Code, message: String) -> Refusal {
        Refusal {
            dialect: self.route.dialect,
            code,
            message,
            record: Some(self.record),
        }
    }
}

/// Whether a path is the gateway's own.
fn is_own(path: &str) -> bool {
    let under = |name: &str| {
        path.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    under("/jobs") || under("/scopes") || path == crate::cold::door::KEYS
}

/// A route and the body that told it.
type Routed = (Arc<Route>, Kept, Peek, Intent);

impl Worker {
    /// A worker; `index` names its connection pools.
    pub fn new(index: usize, gateway: Arc<Gateway>) -> Self {
        Self {
            index,
            gateway,
            tunnels: Tunnels::default(),
        }
    }

    /// What all workers share.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Answers a call. Dropping the future cancels it, down to the provider.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let arrived = Instant::now();
        let path = request.uri().path();
        if is_own(path) {
            let request = request.map(axum::body::Body::new);
            let answer = self.gateway.api.clone().oneshot(request).await;
            return answer
                .unwrap_or_else(|never| match never {})
                .map(AnswerBody::Api);
        }
        if let Some(answer) = responses::told(&self.gateway.api, &request).await {
            return answer;
        }
        let id = request_id();
        let mut response = match self.answer(request, arrived, &id).await {
            Ok(response) => response,
            Err(refusal) => refuse(refusal),
        };
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        arrived: Instant,
        id: &HeaderValue,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let state = self.gateway.state.load_full();
        let (parts, body) = request.into_parts();
        let (routed, read) = self.route(&state, &parts, body, arrived).await?;
        let (route, kept, peek, intent) = routed;
        let record = Record::new(route.clone(), arrived, peek.stream);
        let scopes = &self.gateway.scopes;
        let entered = pipeline::enter(scopes, &state.limits, &parts.headers, &intent, &record, id);
        let scope = match entered {
            Ok(scope) => scope,
            Err((code, message)) => {
                return Err(Refusal {
                    dialect: route.dialect,
                    code,
                    message,
                    record: Some(record),
                });
            }
        };
        let mut ready = self.prepare(&state, parts, route, record, kept, peek, intent, arrived)?;
        ready.record.waited_for_caller(read);
        if let Some(scope) = scope {
            pipeline::bound(&mut ready, scope);
        }
        if ready.switched.is_some() && ready.route.dialect != Dialect::Anthropic {
            return tunnel::open(self.index, &self.gateway, &self.tunnels, &state, ready).await;
        }
        let (mut ready, twin) = twin(ready, &state.limits)?;
        let Some(twin) = twin else {
            return run(self.index, self.gateway.clone(), state, ready).await;
        };
        loop {
            match self.shared(&state, ready, twin).await {
                Joined::Answered(answered) => return answered,
                Joined::Anew(again) => ready = again,
            }
        }
    }

    /// Answers a call that is another's twin, or may have one.
    async fn shared(&self, state: &Arc<State>, mut ready: Box<Ready>, twin: Twin) -> Joined {
        let (gateway, state) = (self.gateway.clone(), state.clone());
        Joined::Answered(
            match gateway.shares.enter(twin.key, twin.joins, twin.terms) {
                Place::Joins(holder) => {
                    ready.route.meter.joined(twin.by);
                    return pipeline::joined(ready.scope.clone(), follow(holder, ready, twin.by))
                        .await;
                }
                Place::Other => Err(ready.refuse(Code::IdempotencyMismatch, share::OTHER.into())),
                Place::Alone if ready.key.is_none() => run(self.index, gateway, state, ready).await,
                Place::Alone => Err(ready.refuse(Code::Overloaded, share::NO_ROOM.into())),
                Place::First(holder) => {
                    ready.record.may_lose_its_caller(holder.orphaned());
                    let (keep, key) = (ready.route.retries.keep.get(), ready.key);
                    let racing = Box::pin(run(self.index, gateway.clone(), state, ready));
                    Ok(lead(holder, gateway, keep, key, racing).await)
                }
            },
        )
    }

    /// Finds the route; reads the body where that needs it or a later step will.
    async fn route(
        &self,
        state: &Arc<State>,
        parts: &request::Parts,
        body: Incoming,
        arrived: Instant,
    ) -> Result<(Routed, Duration), Refusal> {
        let path = parts.uri.path();
        let candidates: SmallVec<[&Arc<Route>; 4]> =
            state.table.candidates(path, &parts.headers).collect();
        let Some(first) = candidates.first() else {
            return Err(no_route(path, ""));
        };
        let refuse = |code, message| Refusal {
            dialect: first.dialect,
            code,
            message,
            record: Some(Record::new((*first).clone(), arrived, false)),
        };
        let asked = Intent::read(&parts.headers).map_err(|why| refuse(Code::BadRequest, why))?;
        if tunnel::is_upgrade(&parts.headers) || !wants_body(&candidates, parts, &asked) {
            let body = Kept::Once(OutBody::streamed(Queue::default(), body));
            let route = candidates.iter().find(|route| route.takes_model(None));
            let route = route.ok_or_else(|| no_route(path, ""))?;
            return Ok((
                ((*route).clone(), body, Peek::default(), asked),
                Duration::ZERO,
            ));
        }
        let longest = first.budget.total.get();
        let kept = timeout_at(arrived + longest, keep(body, state.limits.body.bytes())).await;
        let read = arrived.elapsed();
        let kept = kept
            .map_err(|_| refuse(Code::BadRequest, "the body did not arrive in time".into()))?
            .map_err(|error| refuse(Code::BadRequest, format!("the body broke off: {error}")))?;
        let modelled =
            first.dialect != Dialect::Plain || candidates.iter().any(|route| route.wants_model());
        let peek = match &kept {
            Kept::Whole(data, _) if modelled && may_be_json(&parts.headers) && !data.is_empty() => {
                Peek::read(data).map_err(|why| refuse(Code::BadRequest, why))?
            }
            _ => Peek::default(),
        };
        let model = peek.model.as_deref();
        let route = candidates.iter().find(|route| route.takes_model(model));
        let route = route.ok_or_else(|| no_route(path, &told(model)))?;
        Ok((((*route).clone(), kept, peek, asked), read))
    }

    /// Puts together what the race and the hand-off need.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one call, each used once"
    )]
    fn prepare(
        &self,
        state: &Arc<State>,
        mut parts: request::Parts,
        route: Arc<Route>,
        record: Record,
        kept: Kept,
        peek: Peek,
        intent: Intent,
        arrived: Instant,
    ) -> Result<Box<Ready>, Refusal> {
        let bad = |message, record| Refusal {
            dialect: route.dialect,
            code: Code::BadRequest,
            message,
            record: Some(record),
        };
        if let Some(url) = &intent.callback
            && let Err(why) = self.gateway.door.check_callback(url)
        {
            return Err(bad(why, record));
        }
        let whole = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let inner = route.inner_path(whole);
        let path = match parts.uri.path_and_query() {
            Some(path) if path.as_str() == inner => Ok(path.clone()),
            _ => inner.parse(),
        };
        let path: PathAndQuery = match path {
            Ok(path) => path,
            Err(error) => return Err(bad(format!("the path is not valid: {error}"), record)),
        };
        let (data, trailers, once) = match kept {
            Kept::Whole(data, trailers) => (data, trailers, None),
            Kept::Once(body) => (Bytes::new(), None, Some(body)),
        };
        let demotable = once.is_none() && state.limits.body.bytes() >= data.len();
        let deadline = deadline(
            &route.budget,
            &route.over_budget,
            &intent,
            peek.stream,
            demotable,
        );
        let safe = once.is_none()
            && is_safe(
                route.hedge.safe,
                route.dialect,
                &parts.method,
                path.path(),
                &peek,
            );
        let switched = tunnel::is_upgrade(&parts.headers).then(|| parts.headers.clone());
        let mut headers = parts.headers;
        towards_the_provider(&mut headers);
        Ok(Box::new(Ready {
            call: Call {
                method: parts.method,
                path,
                headers,
                kind: peek.kind(route.dialect, data.len()),
                body: data,
                trailers,
                model: peek.model_at,
                streamed: peek.stream,
            },
            upgrade: parts.extensions.remove(),
            switched,
            body: once,
            safe,
            said: None,
            deadline,
            intent,
            record,
            route,
            arrived,
            key: None,
            scope: None,
        }))
    }
}

/// Whether the body has to be read before the call can go on.
fn wants_body(candidates: &[&Arc<Route>], parts: &request::Parts, intent: &Intent) -> bool {
    let asked = intent.respond_async || intent.key.is_some();
    if parts.method == Method::GET || parts.method == Method::HEAD || asked {
        return true;
    }
    if intent.retry.is_some() && may_be_json(&parts.headers) {
        return true;
    }
    candidates.iter().any(|route| {
        let modelled = route.wants_model() || route.dialect != Dialect::Plain;
        (modelled && may_be_json(&parts.headers))
            || route.hedge.safe == Safe::Always
            || route.over_budget.unasked == crate::config::Unasked::SeeOther
    })
}

fn may_be_json(headers: &HeaderMap) -> bool {
    // Without a type it may be JSON: the body will tell.
    is_json(headers).unwrap_or(true)
}

/// How a call's model is named in a refusal.
fn told(model: Option<&str>) -> String {
    match model {
        Some(model) => format!(" with the model `{model}`"),
        None => " without a `model`".into(),
    }
}

fn no_route(path: &str, model: &str) -> Refusal {
    let message =
        format!("no route takes {path}{model}; add one to [[routes]], or call /PROVIDER{path}");
    Refusal {
        dialect: error::guess(path),
        code: Code::NoRoute,
        message,
        record: None,
    }
}
