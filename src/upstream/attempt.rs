//! One call to one target.
//!
//! Promises: dropping it cancels the call at the provider (HTTP/1.1: the connection closes;
//! HTTP/2: RST_STREAM); it is measured exactly once, a cancelled one as at least its age; what
//! was read before the verdict is passed on unchanged. A value that can change owner while it
//! runs. Never waits on a clock of its own but the connection's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Request, Response, response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::OutBody;
use super::dialect::Usage;
use super::gauge::Gauge;
use super::incoming::{Cut, Inbound};
use super::inflow::{Fate, Fault};
use super::media::{is_encoded, says_events, says_json};
use super::now::Now;
use super::part::Part;
use super::permits::Permit;
use super::pool::Lease;
use super::queue::Queue;
use super::refusal::{is_final, retry_after, retryable};
use super::send::send;
use super::target::Target;
pub use super::verdict::{Broken, Verdict};
use crate::meter::{Sampled, Use, Witness};
use crate::placed::{boxed, pinned};

/// How much of an answer is read before its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The head.
    Head,
    /// Streams: the first event with content. Other answers: the head.
    Content,
    /// The same, but JSON and errors are read whole, up to so many bytes.
    Json(usize),
    /// Streams: the first event with content. Other answers: all of it, up to so many bytes.
    Whole(usize),
}

/// Bytes of a stream without content that are held at most.
const PRELUDE: usize = 256 << 10;

enum State {
    Head(BoxFuture<'static, Result<(Response<Incoming>, Lease), Broken>>),
    Body(Inbound, Option<Lease>),
    Ended,
}

/// What an attempt is started with.
pub struct Start {
    /// Where to.
    pub target: Arc<Target>,
    /// Leave to call it.
    pub permit: Permit,
    /// A job's part of the quota.
    pub part: Option<Part>,
    /// Whose connections.
    pub worker: usize,
    /// When: now.
    pub now: Instant,
    /// What.
    pub request: Request<OutBody>,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Whether the caller asked for a stream.
    pub streamed: bool,
    /// Where its time is counted for hedging.
    pub basis: Option<Arc<Sampled>>,
    /// Where its time is counted for predictions.
    pub witness: Option<Witness>,
}

/// One call to one target.
pub struct Attempt {
    state: State,
    head: Option<response::Parts>,
    held: Queue<Frame<Bytes>>,
    held_bytes: usize,
    /// The answer is JSON.
    json: bool,
    /// It was told to be refused: what is left is to be passed on all the same.
    refused: bool,
    /// Of a caller's body that is passed on as it comes.
    fate: Option<Fate>,
    /// When it was judged last; its start before that.
    judged: Instant,
    gauge: Gauge,
}

impl Attempt {
    /// Starts it; nothing happens before it is polled. Boxed, as it changes hands often.
    pub fn start(mut start: Start) -> Box<Self> {
        let (fate, judged) = (start.request.body_mut().fate(), start.now);
        let target = start.target.clone();
        target.provider.sees(start.request.headers(), start.now);
        let length = Body::size_hint(start.request.body()).lower();
        let pool = start.target.provider.pool(start.worker).clone();
        let head = pinned(|| send(start.target, pool, start.request, start.connect, start.part));
        boxed(|| Self {
            state: State::Head(head),
            head: None,
            held: Queue::default(),
            held_bytes: 0,
            json: false,
            refused: false,
            fate,
            judged,
            gauge: Gauge::new(
                target,
                start.permit,
                start.now,
                start.streamed,
                start.basis,
                start.witness,
                length,
            ),
        })
    }

    /// Its target.
    pub fn target(&self) -> &Arc<Target> {
        self.gauge.target()
    }

    /// Time since its start.
    pub fn age(&self) -> Duration {
        self.gauge.age()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.gauge.started()
    }

    /// When it was judged.
    pub fn judged(&self) -> Instant {
        self.judged
    }

    /// When the first content was seen.
    pub fn first_content(&self) -> Option<Instant> {
        self.gauge.first_content()
    }

    /// Tokens seen in its stream so far.
    pub fn tokens_seen(&self) -> u64 {
        self.gauge.tokens_seen()
    }

    /// What its answer told of tokens so far.
    pub fn usage(&self) -> Usage {
        self.gauge.usage()
    }

    /// Whether its stream told of an error, or of nothing at all.
    pub fn told_failure(&self) -> bool {
        self.gauge.told_error() || (self.is_whole() && self.gauge.told_nothing())
    }

    /// Whether its stream ended before its provider said that it is whole. Some never say it.
    pub fn ended_early(&self) -> bool {
        self.gauge.ended_early()
    }

    /// What its tokens count as from now on.
    pub fn used_for(&mut self, used: Use) {
        self.gauge.used_for(used);
    }

    /// The answer's head, once it is there.
    pub fn head(&self) -> Option<&response::Parts> {
        self.head.as_ref()
    }

    /// Whether its provider said that the same again is of no use there.
    pub fn has_last_word(&self) -> bool {
        let head = self.head.as_ref();
        head.is_some_and(|head| is_final(&head.headers))
    }

    /// Takes the answer's head.
    pub fn take_head(&mut self) -> Option<response::Parts> {
        self.head.take()
    }

    /// The answer's body in one piece, if it was read whole and came in one piece.
    pub fn is_whole(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether nothing of the answer is left to pass on.
    pub fn is_passed_on(&self) -> bool {
        self.is_whole() && self.held.is_empty()
    }

    /// Exact bytes left, where the head or the end of the answer told.
    pub fn size_hint(&self) -> http_body::SizeHint {
        if let State::Body(body, _) = &self.state {
            let mut hint = body.size_hint();
            let held = self.held_bytes as u64;
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + held);
            }
            hint.set_lower(hint.lower() + held);
            hint
        } else {
            let trailers = self.held.iter().any(Frame::is_trailers);
            if trailers {
                http_body::SizeHint::default()
            } else {
                http_body::SizeHint::with_exact(self.held_bytes as u64)
            }
        }
    }

    /// Drives it until it can be judged. One that was refused is an answer when it is driven again.
    pub fn poll_verdict(&mut self, context: &mut Context<'_>, hold: Hold) -> Poll<Verdict> {
        let mut now = Now::default();
        let verdict = ready!(self.judge(context, hold, &mut now));
        self.judged = now.get();
        Poll::Ready(verdict)
    }

    fn judge(&mut self, context: &mut Context<'_>, hold: Hold, now: &mut Now) -> Poll<Verdict> {
        let mut rest = None;
        if let State::Head(head) = &mut self.state {
            match ready!(head.as_mut().poll(context)) {
                Err(broken) => return Poll::Ready(self.broke(broken)),
                Ok((response, lease)) => rest = self.received(response, lease, now),
            }
        }
        let Some(head) = &self.head else {
            return Poll::Ready(Verdict::Answer);
        };
        if retryable(head.status.as_u16()) && !self.refused {
            self.refused = true;
            return Poll::Ready(Verdict::Refused(head.status.as_u16(), rest));
        }
        let error = !head.status.is_success();
        let limit = match hold {
            Hold::Head => return Poll::Ready(Verdict::Answer),
            _ if self.gauge.is_stream() => PRELUDE,
            Hold::Whole(limit) => limit,
            Hold::Json(limit) if error || self.json => limit,
            Hold::Json(_) | Hold::Content => return Poll::Ready(Verdict::Answer),
        };
        loop {
            if let Some(verdict) = self.judge_events() {
                return Poll::Ready(verdict);
            }
            if self.held_bytes >= limit || matches!(self.state, State::Ended) {
                return Poll::Ready(Verdict::Answer);
            }
            match ready!(self.poll_body(context, now)) {
                Some(Ok(frame)) => self.hold(frame),
                Some(Err(error)) => return Poll::Ready(self.broke(error.into())),
                None => {}
            }
        }
    }

    /// What the events of a stream say of it so far. An error before any content is one that another
    /// attempt may improve on, whatever the head said.
    fn judge_events(&mut self) -> Option<Verdict> {
        if !self.gauge.is_stream() {
            return None;
        }
        if self.refused || self.gauge.first_content().is_some() {
            return Some(Verdict::Answer);
        }
        if self.gauge.told_error() {
            self.refused = true;
            self.gauge.told_of_failure();
            return Some(Verdict::Told);
        }
        let nothing = self.is_whole() && self.gauge.told_nothing();
        nothing.then(|| Verdict::Broken(Cut::Early.into()))
    }

    /// Takes the head; gives until when the target of one that is refused asks to be left alone.
    fn received(
        &mut self,
        response: Response<Incoming>,
        lease: Lease,
        now: &mut Now,
    ) -> Option<Duration> {
        let (head, body) = response.into_parts();
        let media = head.headers.get(CONTENT_TYPE);
        // Nothing is seen in a stream that is compressed, though nobody asked for it: it is passed on.
        let stream = media.is_some_and(says_events)
            && head.status.is_success()
            && !is_encoded(&head.headers);
        self.json = media.is_some_and(says_json);
        self.gauge.head(stream, head.status, &head.headers);
        let mut rest = None;
        if retryable(head.status.as_u16()) {
            rest = retry_after(&head.headers, SystemTime::now());
            // Before its end, which may be here: that would speak well of the target.
            self.gauge.refused(head.status, rest);
        }
        let body = Inbound::new(body, &head);
        let ended = body.is_end_stream();
        self.state = State::Body(body, Some(lease));
        self.head = Some(head);
        if ended {
            self.finish(now.get());
        }
        rest
    }

    fn broke(&mut self, broken: Broken) -> Verdict {
        self.state = State::Ended;
        if let Some(fault) = self.fault() {
            return Verdict::Broken(Broken::Caller(fault));
        }
        // What it did not see is no fault of the provider's.
        if !broken.is_refusal() && !matches!(broken, Broken::Request(_)) {
            self.gauge.failed();
        }
        Verdict::Broken(broken)
    }

    /// What is wrong with the caller's body, which is no fault of the provider's.
    fn fault(&self) -> Option<Fault> {
        self.fate.as_ref().and_then(Fate::fault)
    }

    fn hold(&mut self, frame: Frame<Bytes>) {
        self.held_bytes += frame.data_ref().map_or(0, Bytes::len);
        self.held.push(frame);
    }

    /// The next frame to pass on, read and timed as it comes.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        now: &mut Now,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(frame) = self.held.pop() {
            self.held_bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        self.poll_body(context, now)
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        now: &mut Now,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let State::Body(body, _) = &mut self.state else {
            return Poll::Ready(None);
        };
        let next = ready!(Pin::new(&mut *body).poll_frame(context));
        let ended = match &next {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.gauge.saw(data, now);
                }
                body.is_end_stream()
            }
            Some(Err(_)) => {
                self.state = State::Ended;
                // Its caller's body may have failed, after all of the head was there.
                if self.fault().is_none() {
                    self.gauge.failed();
                }
                false
            }
            None => true,
        };
        if ended {
            self.finish(now.get());
        }
        Poll::Ready(next)
    }

    fn finish(&mut self, now: Instant) {
        if let State::Body(_, lease) = std::mem::replace(&mut self.state, State::Ended)
            && let Some(lease) = lease
        {
            lease.finish(now);
        }
        self.gauge.completed(now);
    }
}
