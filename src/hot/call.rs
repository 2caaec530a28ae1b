//! The way of one call through the gateway, from its head to the head of its answer.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use tower::ServiceExt;

use super::admission;
use super::answer::{REQUEST_ID, refuse, request_id};
use super::earlier::translated;
use super::entry;
use super::error::{self, Code};
use super::gateway::{Gateway, Seat, State};
use super::intake::{Asked, discard};
use super::pipeline;
use super::ready::{self, Ready, Refusal};
use super::record::Record;
use super::relay::AnswerBody;
use super::responses;
use super::routing;
use super::run::run;
use super::share::{self, Joined, Place, follow, lead};
use super::tunnel::{self, Tunnels};
use super::twin::{Twin, twin};
use crate::auth::Key;
use crate::cold::door::KEYS;
use crate::config::Dialect;
use crate::journal::timeline::Timeline;
use crate::placed::{boxed, pinned};
use crate::upstream::inflow::{Fate, Inflow};

/// A call as it came: when, how its caller hears of it, and what is told of it until it has a route.
struct Arrival {
    at: Instant,
    id: HeaderValue,
    timeline: Option<Timeline>,
}

/// A call that passed the entrance. In a box: it is handed on, and nothing keeps room for it.
struct Entered {
    state: Arc<State>,
    asked: Asked,
    /// What becomes of its body, where the connection's next call waits for the end of that.
    unread: Option<Fate>,
    caller: Option<Arc<Key>>,
    /// Why it goes no further than to its key.
    refusal: Option<Refusal>,
}

/// A call that may go on, or what it is told.
type Entrance = Result<(Box<Entered>, Arrival), Box<Response<AnswerBody>>>;

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

/// What the gateway itself answers to HEAD tells how long it would be, and is not sent: over HTTP/2
/// nobody else takes it off (RFC 9110 9.3.2).
fn without_body(is_head: bool, mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    if is_head
        && let AnswerBody::Own(body) = response.body_mut()
        && let Some(body) = body.take()
    {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, body.len().into());
    }
    response
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
    let response = without_body(
        request.method() == Method::HEAD,
        marked(refuse(refusal), id),
    );
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
    pub fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Pin<Box<impl Future<Output = Response<AnswerBody>> + Send + 'static>> {
        // Before the future begins, which then has no room for the request as it came.
        let entered = self.enter(request);
        pinned(|| self.goes_on(entered))
    }

    async fn goes_on(self: Arc<Self>, entered: Entrance) -> Response<AnswerBody> {
        match entered {
            Ok((entered, arrival)) => self.let_in(entered, arrival).await,
            Err(turned_away) => *turned_away,
        }
    }

    /// Looks at a call's head, and whose it is.
    fn enter(&self, mut request: Request<Incoming>) -> Entrance {
        let at = Instant::now();
        let state = self.gateway.state.load_full();
        let journal = self.gateway.journal.as_ref();
        let journal = journal.filter(|_| !is_own(request.uri().path()));
        let timeline = journal.map(|journal| journal.begin(&request, at));
        let is_upgrade = match entry::check(&request, &state) {
            Ok(is_upgrade) => is_upgrade,
            Err((code, message)) => {
                return Err(Box::new(turned_away(&request, code, message, timeline)));
            }
        };
        let caller = match request.uri().path() {
            // What receivers of callbacks verify with is public.
            KEYS => Ok(None),
            _ => admission::identify(&state, &mut request),
        };
        let (caller, refusal) = match caller {
            Ok(caller) => (caller, None),
            Err(refusal) => (None, Some(refusal)),
        };
        let (parts, body) = request.into_parts();
        let unread = parts.version < Version::HTTP_2 && !body.is_end_stream();
        let mut body = Inflow::new(body, &state.limits.caller);
        let unread = unread.then(|| body.fate());
        let entered = boxed(|| Entered {
            state,
            asked: Asked {
                parts,
                body: Some(body),
                begun: Bytes::new(),
                is_upgrade,
            },
            unread,
            caller,
            refusal,
        });
        let id = request_id();
        Ok((entered, Arrival { at, id, timeline }))
    }

    /// Lets a call to the gateway's own pages, to what is kept here, or to a provider.
    async fn let_in(
        &self,
        mut entered: Box<Entered>,
        mut arrival: Arrival,
    ) -> Response<AnswerBody> {
        let unread = entered.unread.take();
        let is_head = entered.asked.parts.method == Method::HEAD;
        if let Some(mut refusal) = entered.refusal.take() {
            told(&mut refusal, arrival.timeline, &arrival.id);
            pinned(|| discard(entered.asked)).await;
            let response = marked(refused(refusal, unread.as_ref()), arrival.id);
            return without_body(is_head, response);
        }
        // Boxed here and below, so that other calls have no room for it.
        if is_own(entered.asked.parts.uri.path()) {
            return pinned(|| self.own(entered)).await;
        }
        if let Some(asked) = responses::asked(&entered.asked.parts, entered.caller.as_ref())
            && let Some(answer) = pinned(|| responses::told(&self.gateway.api, asked)).await
        {
            if let Some(timeline) = arrival.timeline {
                timeline.forget();
            }
            return answer;
        }
        let response = match self.answer(entered, &mut arrival).await {
            Ok(response) => response,
            Err(mut refusal) => {
                told(&mut refusal, arrival.timeline, &arrival.id);
                refused(refusal, unread.as_ref())
            }
        };
        without_body(is_head, marked(response, arrival.id))
    }

    /// Answers what asks for jobs and scopes.
    async fn own(&self, mut entered: Box<Entered>) -> Response<AnswerBody> {
        admission::stand_for(entered.caller.as_ref(), &mut entered.asked.parts.headers);
        let body = entered.asked.body.take().map(axum::body::Body::new);
        let request = Request::from_parts(entered.asked.parts, body.unwrap_or_default());
        let answer = self.gateway.api.clone().oneshot(request).await;
        answer
            .unwrap_or_else(|never| match never {})
            .map(AnswerBody::Api)
    }

    async fn answer(
        &self,
        entered: Box<Entered>,
        arrival: &mut Arrival,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let state = entered.state.clone();
        let ready = self.understand(entered, arrival).await?;
        if ready.switched.is_some() && ready.route.dialect != Dialect::Anthropic {
            let tunnels = &self.tunnels;
            return pinned(|| tunnel::open(&self.gateway, tunnels, &state, ready)).await;
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

    /// Reads a call and finds its route. A future of its own: what it needs takes the place of what
    /// the race needs later, and not one beside it.
    async fn understand(
        &self,
        mut entered: Box<Entered>,
        arrival: &mut Arrival,
    ) -> Result<Box<Ready>, Refusal> {
        let caller = entered.caller.take();
        let begun = admission::begin(&entered.state, caller, &entered.asked.parts, arrival.at);
        let admission = match begun {
            Ok(admission) => admission,
            Err(why) => {
                pinned(|| discard(entered.asked)).await;
                return Err(why);
            }
        };
        let (routed, read) = routing::route(&entered.state, &mut entered.asked, arrival.at).await?;
        let (route, mut kept, mut peek, intent) = routed;
        let mut record = Record::new(route.clone(), arrival.at, peek.stream);
        if let Some(mut timeline) = arrival.timeline.take() {
            timeline.is_called(&arrival.id);
            record.is_told(timeline, peek.model.as_deref());
        }
        let state = &entered.state;
        if let Err(why) = admission::admit(state, admission, &mut record) {
            return Err(Refusal::of(&route, record, why));
        }
        if peek.earlier_at.is_some() && route.dialect == Dialect::Openai {
            let headers = &mut entered.asked.parts.headers;
            let (door, owner) = (&self.gateway.door, record.owner(headers));
            match pinned(|| translated(door, owner, headers, &kept, &peek)).await {
                Ok(None) => {}
                Ok(Some(other)) => (kept, peek) = other,
                Err(why) => return Err(Refusal::of(&route, record, why)),
            }
        }
        let scopes = &self.gateway.scopes;
        let (limits, headers, id) = (&state.limits, &entered.asked.parts.headers, &arrival.id);
        let scope = match pipeline::enter(scopes, limits, headers, &intent, &record, id) {
            Ok(scope) => scope,
            Err(why) => return Err(Refusal::of(&route, record, why)),
        };
        let mut ready = ready::prepare(
            &self.gateway.door,
            state,
            &mut entered.asked,
            route,
            record,
            kept,
            peek,
            intent,
            arrival.at,
        )?;
        ready.record.waited_for_caller(read);
        let budget = ready.deadline.budget;
        if let Some(timeline) = ready.record.timeline() {
            timeline.has(budget, read);
            let whole = ready.body.is_none();
            timeline.asks(whole.then_some(&ready.call.body));
        }
        if let Some(scope) = scope {
            pipeline::bound(&mut ready, scope);
        }
        Ok(ready)
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
        at_most(2_000, of(|| Worker::goes_on(any(), any())));
        at_most(1_128, size_of::<Attempt>() + size_of::<Relay>());
    }
}
