//! The way of one call through the gateway, from its head to the head of its answer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout, timeout_at};
use tower::ServiceExt;

use super::answer::{REQUEST_ID, refuse, request_id, respond};
use super::budget::{Deadline, Then, deadline};
use super::demote;
use super::error::{self, Code};
use super::headers::{strip_hop_by_hop, towards_the_provider};
use super::intake::{Kept, keep};
use super::intent::Intent;
use super::keepalive;
use super::predict;
use super::race::{Finish, Race, Rules};
use super::record::Record;
use super::relay::AnswerBody;
use super::route::{Route, Table};
use super::safe::is_safe;
use super::tunnel::{self, Tunnels};
use crate::cold::door::Door;
use crate::cold::job::Reason;
use crate::config::{Dialect, HedgeAfter, Limits, Safe};
use crate::meter::{Outcome, Said};
use crate::tasks::Tasks;
use crate::upstream::attempt::Hold;
use crate::upstream::attempts::Attempts;
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
    pub state: ArcSwap<State>,
    /// The way to the cold side.
    pub door: Door,
    /// The jobs API.
    pub jobs: axum::Router,
    /// Owner of tunnels.
    pub tasks: Tasks,
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
        if path == "/jobs" || path.starts_with("/jobs/") {
            let request = request.map(axum::body::Body::new);
            let answer = self.gateway.jobs.clone().oneshot(request).await;
            return answer
                .unwrap_or_else(|never| match never {})
                .map(AnswerBody::Api);
        }
        let mut response = match self.answer(request, arrived).await {
            Ok(response) => response,
            Err(refusal) => refuse(refusal),
        };
        response.headers_mut().insert(REQUEST_ID, request_id());
        response
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        arrived: Instant,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let state = self.gateway.state.load_full();
        let (parts, body) = request.into_parts();
        let (routed, read) = self.route(&state, &parts, body, arrived).await?;
        let (route, kept, peek, intent) = routed;
        let record = Record::new(route.clone(), arrived, peek.stream);
        let mut ready = self.prepare(&state, parts, route, record, kept, peek, intent, arrived)?;
        ready.record.waited_for_caller(read);
        if ready.switched.is_some() && ready.route.dialect != Dialect::Anthropic {
            return self.tunnel(&state, ready).await;
        }
        let at_once = ready.intent.respond_async && ready.intent.wait == Some(Duration::ZERO);
        if at_once && ready.body.is_some() {
            let most = state.limits.body;
            return Err(Refusal {
                dialect: ready.route.dialect,
                code: Code::BodyTooLarge,
                message: format!(
                    "a job keeps its request, and this one is longer than limits.body ({most}); \
                     send it without wait=0, or raise the limit"
                ),
                record: Some(ready.record),
            });
        }
        if at_once && ready.deadline.then == Then::Demote {
            return demote::demote(&self.gateway.door, ready, Attempts::default()).await;
        }
        let told = predict::at_once(&self.gateway.door, ready, state.margin).await;
        let ready = match told {
            Ok(response) => return Ok(response),
            Err(ready) => ready,
        };
        let waits = keepalive::wanted(&ready).map(|every| (every, ready.route.clone()));
        let racing = race(self.index, self.gateway.clone(), state, ready);
        match waits {
            None => racing.await,
            Some((every, route)) => keepalive::answer(Box::pin(racing), every, &route).await,
        }
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
        }))
    }

    async fn tunnel(
        &self,
        state: &Arc<State>,
        mut ready: Box<Ready>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let target = ready.route.targets.first(Instant::now()).clone();
        let failed = |code, message: String, record| Refusal {
            dialect: ready.route.dialect,
            code,
            message,
            record: Some(record),
        };
        let Some(place) = self.tunnels.enter(state.limits.tunnels) else {
            let why = "as many tunnels are open as limits.tunnels allows".to_owned();
            return Err(failed(Code::Overloaded, why, ready.record));
        };
        let mut request = target.request(&ready.call, Some(OutBody::kept(Bytes::new())));
        for name in [http::header::CONNECTION, http::header::UPGRADE] {
            for value in ready
                .switched
                .iter()
                .flat_map(|headers| headers.get_all(&name))
            {
                request.headers_mut().append(&name, value.clone());
            }
        }
        let began = Instant::now();
        let connect = ready.route.budget.connect.get();
        let sent = timeout(ready.deadline.budget, async {
            let mut lease = target.provider.pool(self.index).checkout(connect).await;
            let lease = lease.as_mut().map_err(|error| error.to_string())?;
            *request.uri_mut() = target
                .provider
                .uri(&ready.call.path, lease.is_http2())
                .map_err(|error| error.to_string())?;
            lease
                .send(request)
                .await
                .map_err(|error| format!("{error:?}"))
        });
        let provider = match sent.await {
            Ok(Ok(response)) => response,
            Ok(Err(why)) => return Err(failed(Code::ProviderUnreachable, why, ready.record)),
            Err(_) => return Err(demote::too_slow(ready)),
        };
        ready.record.waited_for_provider(began.elapsed());
        ready
            .record
            .answers(Some(target), provider.status().as_u16());
        let mut response = Response::new(AnswerBody::Own(None));
        *response.status_mut() = provider.status();
        *response.headers_mut() = provider.headers().clone();
        ready.record.finish(Outcome::Served);
        if provider.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(caller) = ready.upgrade {
                tunnel::join(&self.gateway.tasks, caller, provider, place);
            }
        } else {
            strip_hop_by_hop(response.headers_mut());
        }
        Ok(response)
    }
}

/// Races a call's attempts and answers with the winner, or with what its deadline wants.
async fn race(
    worker: usize,
    gateway: Arc<Gateway>,
    state: Arc<State>,
    mut ready: Box<Ready>,
) -> Result<Response<AnswerBody>, Refusal> {
    let route = ready.route.clone();
    let retry = ready.body.is_none();
    let mut budget = ready.deadline.budget;
    if ready.deadline.then.is_job() {
        budget = budget.saturating_sub(state.margin);
    }
    let rules = Rules {
        worker,
        deadline: Some(ready.arrived + budget),
        hold: hold(&ready, &state),
        safe: ready.safe,
        retry,
        job: ready.deadline.then.is_job(),
        said: ready.said,
    };
    let mut attempts = Attempts::default();
    let finish = {
        let body = ready.body.take();
        let mut race = Race::new(&route, &ready.call, body, &mut attempts, rules);
        race.begin();
        loop {
            let finish = race.run(&mut ready.record).await;
            match (&finish, ready.deadline.then) {
                (Finish::Deadline, Then::GoOn(action)) => {
                    route.meter.exceeded(action);
                    ready.record.went_over();
                    race.go_on();
                }
                _ => break finish,
            }
        }
    };
    ready.record.tried(attempts.tried().last());
    match finish {
        Finish::Answer(attempt) => Ok(respond(ready, attempt, attempts.made())),
        Finish::Broken(why) => Err(Refusal {
            dialect: route.dialect,
            code: Code::ProviderUnreachable,
            message: format!("no target of route `{}` answered: {why}", route.name),
            record: Some(ready.record),
        }),
        Finish::Later => {
            ready.deadline.reason = Reason::ProviderDown;
            demote::demote(&gateway.door, ready, attempts).await
        }
        Finish::Deadline => {
            route.meter.exceeded(ready.deadline.then.as_str());
            if ready.deadline.then.is_job() {
                return demote::demote(&gateway.door, ready, attempts).await;
            }
            Err(demote::too_slow(ready))
        }
    }
}

/// How much of an answer is read before it wins.
fn hold(ready: &Ready, state: &State) -> Hold {
    let route = &ready.route;
    let enforced = !matches!(ready.deadline.then, Then::GoOn(_));
    let hedged = ready.safe && route.hedge.after != HedgeAfter::Off;
    if !enforced && !hedged {
        return Hold::Head;
    }
    let limit = state.limits.hold.bytes();
    match route.dialect {
        _ if enforced && ready.intent.respond_async => Hold::Whole(limit),
        Dialect::Plain => Hold::Head,
        _ if enforced => Hold::Json(limit),
        _ => Hold::Content,
    }
}

/// Whether the body has to be read before the call can go on.
fn wants_body(candidates: &[&Arc<Route>], parts: &request::Parts, intent: &Intent) -> bool {
    if parts.method == Method::GET || parts.method == Method::HEAD || intent.respond_async {
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
