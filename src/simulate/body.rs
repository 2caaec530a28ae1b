//! An answer that is sent step by step, and knows whether it was sent to its end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::stats::Guard;

/// What is sent, and how long after the step before.
pub struct Step {
    /// Wait before it.
    pub after: Duration,
    /// The bytes.
    pub bytes: Bytes,
    /// It carries a token.
    pub token: bool,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Complete,
    /// The connection breaks.
    Reset,
    /// Nothing more comes.
    Stall,
}

/// The connection is broken on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the simulated provider broke off")]
pub struct BrokenOff;

/// An answer.
pub struct Script {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    guard: Option<Guard>,
    end: End,
    length: Option<u64>,
}

impl Script {
    /// An answer of these steps; `length` is what `Content-Length` says.
    pub fn new(steps: Vec<Step>, guard: Option<Guard>, end: End, length: Option<u64>) -> Self {
        let mut script = Self {
            steps: steps.into(),
            sleep: None,
            guard,
            end,
            length,
        };
        if script.steps.is_empty() && end == End::Complete {
            script.completed();
        }
        script
    }

    fn completed(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.complete();
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(next) = self.steps.front() else {
            return match self.end {
                End::Complete => {
                    self.completed();
                    Poll::Ready(None)
                }
                End::Reset => {
                    if let Some(mut guard) = self.guard.take() {
                        guard.breaks();
                    }
                    Poll::Ready(Some(Err(BrokenOff)))
                }
                End::Stall => Poll::Pending,
            };
        };
        let after = next.after;
        if !after.is_zero() {
            let sleeping = self.sleep.get_or_insert_with(|| Box::pin(sleep(after)));
            ready!(sleeping.as_mut().poll(context));
            self.sleep = None;
        }
        let Some(step) = self.steps.pop_front() else {
            return Poll::Ready(None);
        };
        if step.token
            && let Some(guard) = &mut self.guard
        {
            guard.token();
        }
        if self.steps.is_empty() && self.end == End::Complete {
            self.completed();
        }
        Poll::Ready(Some(Ok(Frame::data(step.bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.end == End::Complete
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::stats::Stats;
    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_broken_off_here_is_none_that_its_caller_left() {
        let stats = Stats::default();
        let script = |end| Script::new(Vec::new(), Some(stats.begin("")), end, None);
        assert!(script(End::Reset).collect().await.is_err());
        drop(script(End::Stall));
        let all = stats.snapshot().total;
        assert_eq!((all.broken, all.aborted, all.completed), (1, 1, 0));
    }
}
