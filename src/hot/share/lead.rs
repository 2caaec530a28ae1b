//! The first of the calls that share an answer: it runs the call, and records what it passes on.
//!
//! Promises: the answer passes as it comes; under a key its last bytes pass once it is kept for
//! good. Dropped before its end, the call goes to a keeper if somebody else wants it or may come
//! for it; else it is cancelled.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use super::keeper;
use super::recording::{End, Head};
use super::{Holder, Settled, Shares, is_lasting};
use crate::cold::job::{StoredAnswer, UnixMillis, lines};
use crate::cold::recall::{Became, CallKey, Kept};
use crate::cold::store::StoreError;
use crate::hot::answer::{is_ours, refuse};
use crate::hot::gateway::Gateway;
use crate::hot::keepalive::Racing;
use crate::hot::ready::Refusal;
use crate::hot::relay::{AnswerBody, BrokenOff, Worth};
use crate::upstream::incoming::is_over;

/// How long the last bytes of an answer may wait until it is kept.
const SILENCE: Duration = Duration::from_millis(500);

/// What is done for a shared call besides running it.
pub(super) struct Errands {
    pub holder: Holder,
    pub gateway: Arc<Gateway>,
    /// How long it is kept for a caller that vanished.
    pub keep: Duration,
    /// What it is kept under for good.
    pub key: Option<CallKey>,
}

/// An answer's head, and whether twins get it too.
pub(super) enum Begun {
    /// They do.
    Shared(Response<AnswerBody>),
    /// It is the first caller's own.
    Own(Response<AnswerBody>),
}

/// What runs.
pub(super) enum Running {
    /// Until its head.
    Race(Racing),
    /// Until its end.
    Body(AnswerBody),
}

/// The answer of a call that others may join; dropping the future does what the module says.
pub(crate) async fn lead(
    holder: Holder,
    gateway: Arc<Gateway>,
    keep: Duration,
    key: Option<CallKey>,
    racing: Racing,
) -> Response<AnswerBody> {
    let errands = Errands {
        holder,
        gateway,
        keep,
        key,
    };
    Leading(Some((errands, racing))).await
}

struct Leading(Option<(Errands, Racing)>);

impl Future for Leading {
    type Output = Response<AnswerBody>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (_, racing) = self.0.as_mut().expect("polled until it is ready");
        let done = ready!(racing.as_mut().poll(context));
        let (errands, _) = self.0.take().expect("it is there until it is ready");
        let response = match errands.begin(done) {
            Begun::Shared(response) => response,
            Begun::Own(response) => return Poll::Ready(response),
        };
        Poll::Ready(response.map(|body| {
            AnswerBody::Led(Box::new(Led {
                state: State::Passing(body),
                errands: Some(errands),
                last: None,
            }))
        }))
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        if let Some((errands, racing)) = self.0.take() {
            keeper::hand_over(errands, Running::Race(racing));
        }
    }
}

impl Errands {
    pub fn shares(&self) -> &Shares {
        &self.gateway.shares
    }

    /// The head came. What the gateway itself says to a call under a key, a refusal or a job, is
    /// by its caller's own terms, and the store knows the job: twins ask for themselves.
    pub fn begin(&self, done: Result<Response<AnswerBody>, Refusal>) -> Begun {
        let refused = done.is_err();
        let response = done.unwrap_or_else(refuse);
        let settled = response.extensions().get::<Settled>().is_some();
        if self.key.is_some() && (refused || settled) {
            self.ended(End::NotTheirs);
            return Begun::Own(response);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        if refused || !is_lasting(status) {
            self.shares().forget(&self.holder.0);
        }
        self.holder.0.recording.begin(Head { status, headers });
        Begun::Shared(response)
    }

    pub fn saw(&self, frame: &Frame<Bytes>) {
        self.holder.0.recording.push(frame);
    }

    pub fn ended(&self, end: End) {
        self.holder.0.recording.end_as(end);
        if end != End::Whole {
            self.shares().forget(&self.holder.0);
        }
    }

    /// Everything came: keeps it under its key, if it has one, and then forgets it here.
    pub fn keep(&mut self) -> Option<BoxFuture<'static, ()>> {
        let key = self.key.take()?;
        let recording = &self.holder.0.recording;
        let head = recording.head().filter(|head| is_lasting(head.status))?;
        if recording.end().is_some() {
            return None;
        }
        let mut headers = lines(&head.headers);
        headers.retain(|(name, value)| !is_ours(name, value));
        let answer = StoredAnswer {
            status: head.status.as_u16(),
            headers,
            body: recording.bytes(),
            timing: String::new(),
        };
        let kept = Kept {
            key,
            at: UnixMillis::now(),
            what: Became::Answer(answer),
        };
        let (gateway, share) = (self.gateway.clone(), self.holder.0.clone());
        let keeping = gateway.door.keep(kept);
        Some(Box::pin(async move {
            // A store that is silent is as good as none: the answer is there, and its caller waits.
            let silent = || StoreError::Unavailable("it did not answer in time".into());
            let kept = timeout(SILENCE, keeping).await;
            match kept.unwrap_or_else(|_| Err(silent())) {
                Ok(()) => gateway.shares.forget(&share),
                Err(error) => {
                    tracing::warn!(%error, "an answer was not kept under its Idempotency-Key");
                }
            }
        }))
    }
}

/// A frame, the end, or why it broke off.
type Next = Option<Result<Frame<Bytes>, BrokenOff>>;

/// The body of an answer that others may join.
pub struct Led {
    state: State,
    errands: Option<Errands>,
    /// Passed on when it is kept.
    last: Option<Frame<Bytes>>,
}

enum State {
    Passing(AnswerBody),
    Keeping(BoxFuture<'static, ()>),
    Ended,
}

impl Led {
    /// The next frame.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            match &mut self.state {
                State::Passing(body) => {
                    let next = ready!(Pin::new(&mut *body).poll_frame(context));
                    let more = next.is_some() && !is_over(body);
                    let worth = body.worth();
                    if let ControlFlow::Break(passed) = self.takes(next, more, worth) {
                        return Poll::Ready(passed);
                    }
                }
                State::Keeping(keeping) => {
                    ready!(keeping.as_mut().poll(context));
                    self.end(End::Whole);
                }
                State::Ended => return Poll::Ready(self.last.take().map(Ok)),
            }
        }
    }

    /// Takes what came; breaks with what is to be passed on at once.
    fn takes(&mut self, next: Next, more: bool, worth: Worth) -> ControlFlow<Next> {
        let Some(errands) = &mut self.errands else {
            return ControlFlow::Break(next);
        };
        match next {
            Some(Err(why)) => {
                self.end(End::Broken);
                return ControlFlow::Break(Some(Err(why)));
            }
            Some(Ok(frame)) => {
                errands.saw(&frame);
                if more && !frame.is_trailers() {
                    return ControlFlow::Break(Some(Ok(frame)));
                }
                self.last = Some(frame);
            }
            None => {}
        }
        match worth {
            Worth::Failed => self.end(End::Broken),
            Worth::Endless => self.end(End::Endless),
            Worth::Whole => match errands.keep() {
                Some(keeping) => self.state = State::Keeping(keeping),
                None => self.end(End::Whole),
            },
        }
        ControlFlow::Continue(())
    }

    fn end(&mut self, end: End) {
        if let Some(errands) = self.errands.take() {
            errands.ended(end);
        }
        self.state = State::Ended;
    }

    /// Whether nothing is left.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended) && self.last.is_none()
    }

    /// Exact bytes left, where they are known.
    pub fn size_hint(&self) -> SizeHint {
        if let State::Passing(body) = &self.state {
            return body.size_hint();
        }
        let last = self.last.as_ref().and_then(Frame::data_ref);
        SizeHint::with_exact(last.map_or(0, Bytes::len) as u64)
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        let Some(errands) = self.errands.take() else {
            return;
        };
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Passing(body) => keeper::hand_over(errands, Running::Body(body)),
            // It is on its way to the store, which finishes it.
            State::Keeping(_) | State::Ended => errands.ended(End::Whole),
        }
    }
}
