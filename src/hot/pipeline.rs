//! A call in its scope: refused when the scope was cancelled, held to its deadline, ended with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::error::Code;
use super::intent::Intent;
use super::ready::{Ready, Refusal};
use super::record::Record;
use super::relay::{AnswerBody, BrokenOff, Worth};
use super::scope::{Closed, Member, Membership, Scopes};
use super::share::Joined;
use crate::cold::job::Reason;
use crate::config::Limits;

const CANCELLED: &str = "the call's scope was cancelled; begin another scope";

/// Enters a call into the scope that it names.
pub(super) fn enter(
    scopes: &Scopes,
    limits: &Limits,
    headers: &HeaderMap,
    intent: &Intent,
    record: &Record,
    id: &HeaderValue,
) -> Result<Option<Arc<Membership>>, (Code, String)> {
    let Some(name) = &intent.scope else {
        return Ok(None);
    };
    let route = record.route();
    let member = Member {
        request: id.clone(),
        route: route.name.clone(),
        dialect: route.dialect,
        arrived: record.arrived(),
    };
    let owner = record.owner(headers);
    let entered = scopes.enter(owner, name, intent.scope_budget, limits.scopes, member);
    let closed = |closed| match closed {
        Closed::Cancelled => (Code::ScopeCancelled, CANCELLED.to_owned()),
        Closed::Full => {
            let message = format!(
                "there are too many scopes already; wait for some to rest, or raise limits.scopes ({})",
                limits.scopes
            );
            (Code::Overloaded, message)
        }
    };
    entered.map(|one| Some(Arc::new(one))).map_err(closed)
}

/// Holds a call to its scope's deadline.
pub(super) fn bound(ready: &mut Ready, scope: Arc<Membership>) {
    if let Some(left) = scope.left(ready.arrived)
        && left < ready.deadline.budget
    {
        ready.deadline.budget = left;
        ready.deadline.reason = Reason::BudgetExceeded;
    }
    ready.record.is_of(scope.token());
    ready.scope = Some(scope);
}

/// Drives a call until it is answered or its scope is cancelled.
pub(super) async fn within(
    scope: Arc<Membership>,
    call: impl Future<Output = Result<Response<AnswerBody>, Refusal>>,
) -> Result<Response<AnswerBody>, Refusal> {
    match unless_cancelled(&scope, call).await {
        Some(answered) => answered.map(|response| in_scope(scope, response)),
        None => Err(cancelled(&scope)),
    }
}

/// The same for a call that joined another.
pub(super) async fn joined(
    scope: Option<Arc<Membership>>,
    call: impl Future<Output = Joined>,
) -> Joined {
    let Some(scope) = scope else {
        return call.await;
    };
    match unless_cancelled(&scope, call).await {
        Some(Joined::Answered(answered)) => {
            Joined::Answered(answered.map(|response| in_scope(scope, response)))
        }
        Some(anew @ Joined::Anew(_)) => anew,
        None => Joined::Answered(Err(cancelled(&scope))),
    }
}

/// Drives something until it ends, or its scope is cancelled: `None`.
pub(super) async fn unless_cancelled<F: Future>(scope: &Membership, call: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        () = scope.token().cancelled_owned() => None,
        answered = call => Some(answered),
    }
}

/// The call's record went with what ran: it counts as cancelled.
fn cancelled(scope: &Membership) -> Refusal {
    Refusal::early(scope.dialect(), Code::ScopeCancelled, CANCELLED)
}

fn in_scope(scope: Arc<Membership>, response: Response<AnswerBody>) -> Response<AnswerBody> {
    response.map(|body| {
        AnswerBody::Scoped(Box::new(Scoped {
            body: Some(body),
            cancelled: Box::pin(scope.token().cancelled_owned()),
            _scope: scope,
        }))
    })
}

/// The body of an answer in a scope.
pub struct Scoped {
    /// `None` once the scope was cancelled.
    body: Option<AnswerBody>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The call counts as running until its answer has passed.
    _scope: Arc<Membership>,
}

impl Scoped {
    /// The next frame.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        if self.cancelled.as_mut().poll(context).is_ready() && !body.is_end_stream() {
            self.body = None;
            return Poll::Ready(Some(Err(BrokenOff::ScopeCancelled)));
        }
        Pin::new(body).poll_frame(context)
    }

    /// What it was worth.
    pub fn worth(&self) -> Worth {
        self.body.as_ref().map_or(Worth::Failed, AnswerBody::worth)
    }

    /// Whether nothing is left.
    pub fn is_ended(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Exact bytes left, where they are known.
    pub fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}
