//! From a call that is understood to the head of its answer.

use std::sync::Arc;
use std::time::Duration;

use http::Response;

use super::answer::respond;
use super::budget::Then;
use super::demote;
use super::down;
use super::error::Code;
use super::gateway::{Gateway, Seat, State};
use super::keepalive;
use super::pipeline;
use super::predict;
use super::race::{Finish, First, Race, Rules};
use super::ready::{Ready, Refusal};
use super::recalled::recalled;
use super::relay::AnswerBody;
use super::routing::fault_code;
use super::shed;
use crate::cold::job::Reason;
use crate::config::{Dialect, HedgeAfter};
use crate::upstream::attempt::{Broken, Hold};
use crate::upstream::attempts::Attempts;

/// Answers a call; cancelled with its scope.
pub(super) async fn run(
    seat: Seat,
    gateway: Arc<Gateway>,
    state: Arc<State>,
    ready: Box<Ready>,
) -> Result<Response<AnswerBody>, Refusal> {
    match ready.scope.clone() {
        None => conclude(seat, gateway, state, ready).await,
        // Boxed, so that a call without a scope has no room for it.
        Some(scope) => {
            let call = Box::pin(conclude(seat, gateway, state, ready));
            pipeline::within(scope, call).await
        }
    }
}

async fn conclude(
    seat: Seat,
    gateway: Arc<Gateway>,
    state: Arc<State>,
    mut ready: Box<Ready>,
) -> Result<Response<AnswerBody>, Refusal> {
    if let Some(key) = ready.key {
        match recalled(&gateway.door, key, ready).await {
            Ok(free) => ready = free,
            Err(known) => return known,
        }
    }
    let asked = ready.intent.respond_async && ready.intent.wait == Some(Duration::ZERO);
    if asked && ready.body.is_some() {
        let most = state.limits.body;
        let message = format!(
            "a job keeps its request, and this one is longer than limits.body ({most}); \
             send it without wait=0, or raise the limit"
        );
        return Err(ready.refuse(Code::BodyTooLarge, message));
    }
    // Its scope's deadline may have passed, or its own while its body came: nothing is sent for a call that
    // cannot be in time.
    let over = ready.arrived.elapsed() >= ready.deadline.budget;
    let late = over && !matches!(ready.deadline.then, Then::GoOn(_));
    if late {
        ready.record.misses(ready.deadline);
        if !ready.deadline.then.is_job() {
            return Err(demote::too_slow(ready));
        }
    }
    if late || (asked && ready.deadline.then == Then::Demote) {
        return demote::demote(&gateway.door, ready, Attempts::default()).await;
    }
    let ready = match down::at_once(&gateway.door, ready).await {
        Ok(told) => return told,
        Err(ready) => ready,
    };
    let ready = match predict::at_once(&gateway.door, ready, state.margin).await {
        Ok(told) => return told,
        Err(ready) => ready,
    };
    match keepalive::wanted(&ready) {
        None => race(seat, gateway, state, ready).await,
        Some(every) => {
            let (route, limit) = (ready.route.clone(), state.limits.hold.bytes());
            let racing = Box::pin(race(seat, gateway, state, ready));
            keepalive::answer(racing, every, &route, limit).await
        }
    }
}

/// Races a call's attempts and answers with the winner, or with what its deadline wants.
async fn race(
    seat: Seat,
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
        worker: seat.worker,
        deadline: Some(ready.arrived + budget),
        enforced: !matches!(ready.deadline.then, Then::GoOn(_)),
        hold: hold(&ready, &state),
        safe: ready.safe,
        retry,
        job: ready.deadline.then.is_job(),
        said: ready.said,
        claimant: ready.record.claimant(),
    };
    let mut attempts = Attempts::default();
    let finish = {
        let kept = ready.call.headers.clone();
        let first = First {
            headers: std::mem::replace(&mut ready.call.headers, kept),
            body: ready.body.take(),
        };
        let mut race = Race::new(
            &route,
            &ready.call,
            first,
            &mut attempts,
            &mut ready.record,
            rules,
            &seat.alarms,
        );
        race.begin();
        loop {
            let finish = race.run().await;
            match (&finish, ready.deadline.then) {
                (Finish::Deadline, Then::GoOn(action)) => race.go_on(action),
                (Finish::Deadline, _) => {
                    race.misses(ready.deadline);
                    break race.conclude(finish);
                }
                _ => break finish,
            }
        }
    };
    ready.record.tried(attempts.tried().last());
    match finish {
        Finish::Answer(attempt) => Ok(respond(ready, attempt, attempts.made())),
        Finish::Broken(Broken::Caller(fault)) => {
            Err(ready.refuse(fault_code(&state, fault), fault.to_string()))
        }
        Finish::Broken(why) => {
            let message = format!("no target of route `{}` answered: {why}", route.name);
            Err(ready.refuse(down::code(&route), message))
        }
        Finish::Later => {
            ready.deadline.reason = Reason::ProviderDown;
            demote::demote(&gateway.door, ready, attempts).await
        }
        Finish::Overloaded(wait) => shed::shed(&gateway.door, ready, attempts, wait).await,
        Finish::Deadline => {
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
    // Comments can be sent only before the head is.
    if !enforced && !hedged && keepalive::wanted(ready).is_none() {
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
