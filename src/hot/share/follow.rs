//! A call that joined another: it waits for that one's head within its own deadline, and reads its
//! answer from the recording, from the first byte.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body::Frame;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::Holder;
use super::recording::{End, Head, Piece};
use crate::hot::answer::{SERVER_TIMING, is_ours, mark};
use crate::hot::budget::Then;
use crate::hot::demote::too_slow;
use crate::hot::ready::{Ready, Refusal};
use crate::hot::record::Record;
use crate::hot::relay::{AnswerBody, BrokenOff, came_to};
use crate::meter::Outcome;

const JOINED: HeaderName = HeaderName::from_static("x-shunt-joined");

/// Marks an answer that was another call's; `by`: `key` or `retry`.
pub(in crate::hot) fn mark_joined(response: &mut Response<AnswerBody>, by: &'static str) {
    response
        .headers_mut()
        .insert(JOINED, HeaderValue::from_static(by));
}

/// What a call got that joined another.
pub(in crate::hot) enum Joined {
    /// An answer.
    Answered(Result<Response<AnswerBody>, Refusal>),
    /// Nothing: it finds its place anew.
    Anew(Box<Ready>),
}

/// The answer of the call that this one joined.
pub(in crate::hot) async fn follow(
    holder: Holder,
    mut ready: Box<Ready>,
    by: &'static str,
) -> Joined {
    let began = Instant::now();
    let mut deadline = Some(ready.arrived + ready.deadline.budget);
    let head = loop {
        match head(&holder, deadline).await {
            Ok(head) => break head,
            Err(Late::Never) => return Joined::Anew(ready),
            Err(Late::Deadline) => {
                ready.record.waited_for_provider(began.elapsed());
                let Then::GoOn(action) = ready.deadline.then else {
                    // What runs is another caller's, and cannot become this one's job.
                    ready.record.misses(ready.deadline.failing());
                    return Joined::Answered(Err(too_slow(ready)));
                };
                ready.record.went_over(action);
                deadline = None;
            }
        }
    };
    ready.record.waited_for_provider(began.elapsed());
    Joined::Answered(Ok(respond(holder, head, *ready, by)))
}

enum Late {
    Deadline,
    Never,
}

/// Waits for the head.
async fn head(holder: &Holder, deadline: Option<Instant>) -> Result<Head, Late> {
    let recording = &holder.0.recording;
    loop {
        let grown = recording.grown.notified();
        tokio::pin!(grown);
        // Listening before looking: nothing in between is missed.
        grown.as_mut().enable();
        if let Some(head) = recording.head() {
            return Ok(head.clone());
        }
        if recording.end().is_some() {
            return Err(Late::Never);
        }
        match deadline {
            None => grown.await,
            Some(deadline) => timeout_at(deadline, grown)
                .await
                .map_err(|_| Late::Deadline)?,
        }
    }
}

fn respond(holder: Holder, head: Head, ready: Ready, by: &'static str) -> Response<AnswerBody> {
    let mut record = ready.record;
    if let Some(timeline) = record.timeline() {
        timeline.joins(by);
    }
    let (own, provider) = record.answers(None, head.status.as_u16());
    let idle = record.route().budget.idle.get();
    let mut response = Response::new(AnswerBody::Own(None));
    *response.status_mut() = head.status;
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let outcome = match head.status {
        StatusCode::ACCEPTED | StatusCode::SEE_OTHER => Outcome::Demoted,
        status => came_to(status.as_u16(), false),
    };
    *response.headers_mut() = not_its_time(head.headers);
    mark(response.headers_mut(), &record, own, provider);
    mark_joined(&mut response, by);
    let mut body = Followed {
        holder,
        at: 0,
        left: length,
        grown: None,
        idle,
        timer: Box::pin(sleep(idle)),
        record: Some(record),
        outcome,
        ended: false,
    };
    body.pass(0);
    response.map(|_| AnswerBody::Followed(Box::new(body)))
}

/// How long the other call took is not how long this one did.
fn not_its_time(mut headers: HeaderMap) -> HeaderMap {
    let theirs = headers.remove(SERVER_TIMING);
    if let Some(theirs) = theirs
        && !is_ours(SERVER_TIMING.as_str(), theirs.as_bytes())
    {
        headers.insert(SERVER_TIMING, theirs);
    }
    headers
}

/// The body of an answer that was another call's.
pub struct Followed {
    holder: Holder,
    at: usize,
    /// Bytes that are left, where the head told: a server asks for no more.
    left: Option<u64>,
    grown: Option<Pin<Box<OwnedNotified>>>,
    /// The longest silence, as the first caller may have gone without a word.
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    record: Option<Record>,
    outcome: Outcome,
    ended: bool,
}

impl Followed {
    /// The next frame.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let share = self.holder.0.clone();
        let recording = &share.recording;
        loop {
            // Looked at before the pieces: what was there at the end is passed on first.
            let end = recording.end();
            if let Some(piece) = recording.piece(self.at) {
                self.at += 1;
                if let Some(record) = &mut self.record {
                    record.passes_content(Instant::now());
                }
                self.timer.as_mut().reset(Instant::now() + self.idle);
                return Poll::Ready(Some(Ok(match piece {
                    Piece::Data(data) => {
                        self.pass(data.len() as u64);
                        Frame::data(data.clone())
                    }
                    Piece::Trailers(trailers) => Frame::trailers((**trailers).clone()),
                })));
            }
            if let Some((end, _)) = end {
                return Poll::Ready(self.ends(end));
            }
            match &mut self.grown {
                // Listening first, then one more look.
                None => {
                    let mut grown = Box::pin(recording.grown.clone().notified_owned());
                    grown.as_mut().enable();
                    self.grown = Some(grown);
                }
                Some(grown) => {
                    if grown.as_mut().poll(context).is_pending() {
                        ready!(self.timer.as_mut().poll(context));
                        self.settle(Outcome::Failed);
                        return Poll::Ready(Some(Err(BrokenOff::Idle(self.idle))));
                    }
                    self.grown = None;
                }
            }
        }
    }

    /// So many bytes pass; the last of those that the head told end it.
    fn pass(&mut self, bytes: u64) {
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        if self.left == Some(0) {
            self.settle(self.outcome);
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        self.ended = true;
        if let Some(record) = self.record.take() {
            record.finish(outcome);
        }
    }

    fn ends(&mut self, end: End) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        let (told, whole) = (self.ended, matches!(end, End::Whole | End::Endless));
        self.settle(if whole { self.outcome } else { Outcome::Failed });
        (!told && !whole).then(|| {
            Err(BrokenOff::Own(match end {
                End::TooLong => "there is no room to share the answer; see limits.hold and \
                                 limits.replay"
                    .into(),
                _ => "the call that this one joined broke off".into(),
            }))
        })
    }

    /// Whether nothing is left.
    pub fn is_ended(&self) -> bool {
        self.ended
    }
}
