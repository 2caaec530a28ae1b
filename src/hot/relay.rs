//! The body of an answer: the winner's frames as they come, or bytes of the gateway's own.
//!
//! Promises: frames pass unchanged, each when it comes; a silence longer than `idle` or a stream
//! past its `total` where it is to be cut ends the answer as broken, so that the caller notices;
//! dropping it cancels the attempt.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::record::Record;
use crate::meter::Outcome;
use crate::upstream::attempt::Attempt;

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum BrokenOff {
    /// The provider's connection broke.
    #[error("the provider broke off: {0}")]
    Provider(#[from] hyper::Error),
    /// The provider was silent too long.
    #[error("the provider sent nothing for {0:?}")]
    Idle(Duration),
    /// The stream passed its total budget and is to be cut.
    #[error("the stream passed its budget")]
    OverBudget,
    /// The jobs API broke off.
    #[error("{0}")]
    Own(String),
}

/// An answer's body.
pub enum AnswerBody {
    /// The gateway's own bytes.
    Own(Option<Bytes>),
    /// A provider's answer.
    Relay(Box<Relay>),
    /// An answer of the jobs API.
    Api(axum::body::Body),
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self::Own((!bytes.is_empty()).then_some(bytes))
    }
}

/// A provider's answer on its way.
pub struct Relay {
    attempt: Box<Attempt>,
    record: Option<Record>,
    idle: Duration,
    /// When a stream is cut.
    cut: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    last: Instant,
}

impl Relay {
    /// An answer; `idle` and `cut` bound it.
    pub fn new(
        attempt: Box<Attempt>,
        record: Record,
        idle: Duration,
        cut: Option<Instant>,
    ) -> Self {
        let mut relay = Self {
            attempt,
            record: Some(record),
            idle,
            cut,
            timer: None,
            last: Instant::now(),
        };
        relay.ended();
        relay
    }

    /// Settles the record once nothing is left to pass on.
    fn ended(&mut self) {
        if self.attempt.is_passed_on()
            && let Some(record) = self.record.take()
        {
            record.finish(Outcome::Served);
        }
    }

    fn broken(&mut self, why: BrokenOff) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(record) = self.record.take() {
            record.finish(Outcome::Failed);
        }
        Poll::Ready(Some(Err(why)))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.attempt.poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.last = Instant::now();
                if let Some(record) = &mut self.record
                    && self.attempt.first_content().is_some()
                {
                    record.passes_content();
                }
                self.ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.broken(error.into()),
            Poll::Ready(None) => {
                self.ended();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let why = ready!(self.poll_limits(context));
                self.broken(why)
            }
        }
    }

    /// Resolves when a limit has passed.
    fn poll_limits(&mut self, context: &mut Context<'_>) -> Poll<BrokenOff> {
        let silent = self.last + self.idle;
        let due = self.cut.map_or(silent, |cut| cut.min(silent));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            // The timer is moved only when it fires: a stream does not pay for it per chunk.
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(context));
            let now = Instant::now();
            if self.cut.is_some_and(|cut| now >= cut) {
                return Poll::Ready(BrokenOff::OverBudget);
            }
            if now >= silent {
                return Poll::Ready(BrokenOff::Idle(self.idle));
            }
            timer.as_mut().reset(due);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relay(relay) => relay.poll_next(context),
            Self::Api(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|error| BrokenOff::Own(error.to_string())),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relay(relay) => relay.attempt.is_passed_on(),
            Self::Api(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Relay(relay) => relay.attempt.size_hint(),
            Self::Api(body) => body.size_hint(),
        }
    }
}
