//! The way of one call through the gateway, from its head to the head of its answer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use tower::ServiceExt;

use super::admission::{self, Gate};
use super::answer::{REQUEST_ID, refuse, request_id};
use super::earlier::translated;
use super::entry;
use super::error::{self, Code};
use super::intake::discard;
use super::pipeline;
use super::ready::{self, Ready, Refusal};
use super::record::Record;
use super::relay::AnswerBody;
use super::responses;
use super::route::Table;
use super::routing;
use super::run::run;
use super::scope::Scopes;
use super::scopes;
use super::share::{self, Joined, Place, Shares, follow, lead};
use super::tunnel::{self, Tunnels};
use super::twin::{Twin, twin};
use crate::alarm::Alarms;
use crate::auth::Key;
use crate::cold::door::{Door, KEYS};
use crate::config::{Dialect, Limits};
use crate::journal::Journal;
use crate::journal::timeline::Timeline;
use crate::meter::Refused;
use crate::placed::pinned;
use crate::tasks::Tasks;
use crate::upstream::inflow::{Fate, Inflow};

/// What a configuration became; exchanged as a whole by a reload.
pub struct State {
    /// Its routes.
    pub table: Table,
    /// Its bounds.
    pub limits: Limits,
    /// What is counted of those that break a bound.
    pub refused: Refused,
    /// Who may call; none: anyone.
    pub gate: Option<Gate>,
    /// The hand-off starts this long before the deadline.
    pub margin: Duration,
}

impl State {
    /// By which callers take turns at jobs.
    pub fn turns(&self) -> crate::cold::shares::Shares {
        let gate = self.gate.as_ref();
        gate.map(|gate| gate.keys.shares()).unwrap_or_default()
    }

    /// Why a request goes no further than its head, if it does not; counted.
    pub fn turns_away<B>(&self, request: &Request<B>) -> Option<(StatusCode, String)> {
        let checked = entry::check(request, self).err();
        checked.map(|(code, why)| (code.status(), why))
    }
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
    /// Where it is told what became of each call, where that is wanted.
    journal: Option<Arc<Journal>>,
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
            journal: None,
        }
    }

    /// The same, which tells of each call.
    #[must_use]
    pub fn telling(mut self, journal: Option<Arc<Journal>>) -> Self {
        self.journal = journal;
        self
    }
}

/// What a thread that serves calls has of its own, for one of them.
#[derive(Clone)]
pub(super) struct Seat {
    /// Which thread it is; names its connection pools.
    pub worker: usize,
    /// The timers of its calls.
    pub alarms: Arc<Alarms>,
}

/// A call as it came: when, how its caller hears of it, and what is told of it until it has a route.
struct Arrival {
    at: Instant,
    id: HeaderValue,
    timeline: Option<Timeline>,
}

/// One of the threads that serve calls.
pub struct Worker {
    seat: Seat,
    gateway: Arc<Gateway>,
    tunnels: Tunnels,
}

/// Whether a path is the gateway's own.
pub(super) fn is_own(path: &str) -> bool {
    let under = |name: &str| {
        path.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    under("/jobs") || under("/scopes") || path == KEYS
}

fn marked(mut response: Response<AnswerBody>, id: HeaderValue) -> Response<AnswerBody> {
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The answer to a call that goes no further than its head. What follows on its connection may be
/// anything: it closes.
fn turned_away<B>(
    request: &Request<B>,
    code: Code,
    message: String,
    timeline: Option<Timeline>,
) -> Response<AnswerBody> {
    let mut refusal = Refusal::early(error::guess(request.uri().path()), code, message);
    let id = request_id();
    told(&mut refusal, timeline, &id);
    let response = marked(refuse(refusal), id);
    if request.version() < Version::HTTP_2 {
        return closing(response);
    }
    response
}

/// Leaves it to be told that a call is refused.
fn told(refusal: &mut Refusal, mut timeline: Option<Timeline>, id: &HeaderValue) {
    if let Some(timeline) = &mut timeline {
        timeline.is_called(id);
    }
    refusal.is_told(timeline);
}

fn closing(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// Refuses a call. Where its body was not read to the end its connection closes, and its caller is
/// told so: or it would meet the end of it with its next call.
fn refused(refusal: Refusal, body: Option<&Fate>) -> Response<AnswerBody> {
    let response = refuse(refusal);
    if body.is_some_and(|body| !body.is_whole()) {
        return closing(response);
    }
    response
}

impl Worker {
    /// A worker; `index` names its connection pools.
    pub fn new(index: usize, gateway: Arc<Gateway>) -> Self {
        Self {
            seat: Seat {
                worker: index,
                alarms: Arc::default(),
            },
            gateway,
            tunnels: Tunnels::default(),
        }
    }

    /// Answers a call. Dropping the future cancels it, down to the provider.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let arrived = Instant::now();
        let state = self.gateway.state.load_full();
        let journal = self.gateway.journal.as_ref();
        let journal = journal.filter(|_| !is_own(request.uri().path()));
        let timeline = journal.map(|journal| journal.begin(&request, arrived));
        let is_upgrade = match entry::check(&request, &state) {
            Ok(is_upgrade) => is_upgrade,
            Err((code, message)) => return turned_away(&request, code, message, timeline),
        };
        let mut request = request.map(|body| Inflow::new(body, &state.limits.caller));
        let unread = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
        let body = unread.then(|| request.body_mut().fate());
        let caller = match request.uri().path() {
            // What receivers of callbacks verify with is public.
            KEYS => Ok(None),
            _ => admission::identify(&state, &mut request),
        };
        let caller = match caller {
            Ok(caller) => caller,
            Err(mut refusal) => {
                let id = request_id();
                told(&mut refusal, timeline, &id);
                let (head, unread) = request.into_parts();
                pinned(|| async move { discard(&head, unread).await }).await;
                return marked(refused(refusal, body.as_ref()), id);
            }
        };
        if is_own(request.uri().path()) {
            admission::stand_for(caller.as_ref(), request.headers_mut());
            let request = request.map(axum::body::Body::new);
            let answer = self.gateway.api.clone().oneshot(request).await;
            return answer
                .unwrap_or_else(|never| match never {})
                .map(AnswerBody::Api);
        }
        if let Some(answer) = responses::told(&self.gateway.api, &request, caller.as_ref()).await {
            if let Some(timeline) = timeline {
                timeline.forget();
            }
            return answer;
        }
        let mut arrival = Arrival {
            at: arrived,
            id: request_id(),
            timeline,
        };
        let answered = self.answer(state, request, is_upgrade, caller, &mut arrival);
        let response = match answered.await {
            Ok(response) => response,
            Err(mut refusal) => {
                told(&mut refusal, arrival.timeline, &arrival.id);
                refused(refusal, body.as_ref())
            }
        };
        marked(response, arrival.id)
    }

    async fn answer(
        &self,
        state: Arc<State>,
        request: Request<Inflow<Incoming>>,
        is_upgrade: bool,
        caller: Option<Arc<Key>>,
        arrival: &mut Arrival,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let (mut parts, body) = request.into_parts();
        let admission = match admission::begin(&state, caller, &parts, arrival.at) {
            Ok(admission) => admission,
            Err(why) => {
                pinned(|| async move { discard(&parts, body).await }).await;
                return Err(why);
            }
        };
        let (routed, read) = routing::route(&state, &parts, body, arrival.at, is_upgrade).await?;
        let (route, mut kept, mut peek, intent) = routed;
        let mut record = Record::new(route.clone(), arrival.at, peek.stream);
        if let Some(mut timeline) = arrival.timeline.take() {
            timeline.is_called(&arrival.id);
            record.is_told(timeline, peek.model.as_deref());
        }
        if let Err(why) = admission::admit(&state, admission, &mut record) {
            return Err(Refusal::of(&route, record, why));
        }
        if peek.earlier_at.is_some() && route.dialect == Dialect::Openai {
            let (door, owner) = (&self.gateway.door, record.owner(&parts.headers));
            let headers = &mut parts.headers;
            match pinned(|| translated(door, owner, headers, &kept, &peek)).await {
                Ok(None) => {}
                Ok(Some(other)) => (kept, peek) = other,
                Err(why) => return Err(Refusal::of(&route, record, why)),
            }
        }
        let scopes = &self.gateway.scopes;
        let (limits, id) = (&state.limits, &arrival.id);
        let entered = pipeline::enter(scopes, limits, &parts.headers, &intent, &record, id);
        let scope = match entered {
            Ok(scope) => scope,
            Err(why) => return Err(Refusal::of(&route, record, why)),
        };
        let mut ready = ready::prepare(
            &self.gateway.door,
            &state,
            parts,
            route,
            record,
            kept,
            peek,
            intent,
            arrival.at,
            is_upgrade,
        )?;
        ready.record.waited_for_caller(read);
        let budget = ready.deadline.budget;
        if let Some(timeline) = ready.record.timeline() {
            timeline.has(budget, read);
        }
        if let Some(scope) = scope {
            pipeline::bound(&mut ready, scope);
        }
        if ready.switched.is_some() && ready.route.dialect != Dialect::Anthropic {
            let (worker, tunnels) = (self.seat.worker, &self.tunnels);
            // Boxed here and below, so that other calls have no room for it.
            return pinned(|| tunnel::open(worker, &self.gateway, tunnels, &state, ready)).await;
        }
        let (mut ready, twin) = twin(ready, &state.limits)?;
        let Some(twin) = twin else {
            return run(self.seat.clone(), self.gateway.clone(), state, ready).await;
        };
        loop {
            match pinned(|| self.shared(&state, ready, twin)).await {
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
                Place::Alone if ready.key.is_none() => {
                    run(self.seat.clone(), gateway, state, ready).await
                }
                Place::Alone => Err(ready.refuse(Code::Overloaded, share::NO_ROOM.into())),
                Place::First(holder) => {
                    ready.record.may_lose_its_caller(holder.orphaned());
                    let (keep, key) = (ready.route.retries.keep.get(), ready.key);
                    let racing = Box::pin(run(self.seat.clone(), gateway.clone(), state, ready));
                    Ok(lead(holder, gateway, keep, key, racing).await)
                }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::relay::Relay;
    use super::Worker;
    use crate::upstream::attempt::Attempt;
    use crate::weight::{any, at_most, of};

    #[test]
    fn what_a_call_keeps_is_small_before_its_head_and_smaller_after() {
        at_most(4_352, of(|| Worker::serve(any(), any())));
        at_most(1_088, size_of::<Attempt>() + size_of::<Relay>());
    }
}
