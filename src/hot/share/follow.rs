//! A call that joined another: it waits for that one's head within its own deadline, and reads its
//! answer from the recording, from the first byte.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, HeaderName, Response};
use http_body::Frame;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, timeout_at};

use super::Holder;
use super::recording::{End, Head, Piece};
use crate::hot::answer::{SERVER_TIMING, is_ours, mark};
use crate::hot::budget::Then;
use crate::hot::call::{Ready, Refusal};
use crate::hot::demote::too_slow;
use crate::hot::error::Code;
use crate::hot::record::Record;
use crate::hot::relay::{AnswerBody, BrokenOff};
use crate::meter::Outcome;

const JOINED: HeaderName = HeaderName::from_static("x-shunt-joined");

/// Marks an answer that was another call's; `by`: `key` or `retry`.
pub(in crate::hot) fn mark_joined(response: &mut Response<AnswerBody>, by: &'static str) {
    response
        .headers_mut()
        .insert(JOINED, HeaderValue::from_static(by));
}

/// The answer of the call that this one joined.
pub(crate) async fn follow(
    holder: Holder,
    mut ready: Box<Ready>,
    by: &'static str,
) -> Result<Response<AnswerBody>, Refusal> {
    let began = Instant::now();
    let mut deadline = Some(ready.arrived + ready.deadline.budget);
    let head = loop {
        match head(&holder, deadline).await {
            Ok(head) => break head,
            Err(Late::Deadline) => {
                let action = ready.deadline.then;
                ready.route.meter.exceeded(action.as_str());
                if !matches!(action, Then::GoOn(_)) {
                    return Err(too_slow(ready));
                }
                ready.record.went_over();
                deadline = None;
            }
            Err(Late::Never) => {
                return Err(Refusal {
                    dialect: ready.route.dialect,
                    code: Code::ProviderUnreachable,
                    message: "the call that this one joined was given up; send it again".into(),
                    record: Some(ready.record),
                });
            }
        }
    };
    ready.record.waited_for_provider(began.elapsed());
    Ok(respond(holder, head, *ready, by))
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
    let (own, provider) = record.answers(None, head.status.as_u16());
    let body = Followed {
        holder,
        at: 0,
        grown: None,
        record: Some(record),
        ended: false,
    };
    let mut response = Response::new(AnswerBody::Own(None));
    *response.status_mut() = head.status;
    *response.headers_mut() = not_its_time(head.headers);
    if let Some(record) = &body.record {
        mark(response.headers_mut(), record, own, provider);
    }
    mark_joined(&mut response, by);
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
    grown: Option<Pin<Box<OwnedNotified>>>,
    record: Option<Record>,
    ended: bool,
}

impl Followed {
    /// The next frame.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let recording = &self.holder.0.recording;
        loop {
            // Looked at before the pieces: what was there at the end is passed on first.
            let end = recording.end();
            if let Some(piece) = recording.piece(self.at) {
                self.at += 1;
                if let Some(record) = &mut self.record {
                    record.passes_content();
                }
                return Poll::Ready(Some(Ok(match piece {
                    Piece::Data(data) => Frame::data(data.clone()),
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
                    ready!(grown.as_mut().poll(context));
                    self.grown = None;
                }
            }
        }
    }

    fn ends(&mut self, end: End) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        let whole = end == End::Whole;
        if let Some(record) = self.record.take() {
            record.finish(if whole {
                Outcome::Served
            } else {
                Outcome::Failed
            });
        }
        let told = !std::mem::replace(&mut self.ended, true);
        (told && !whole).then(|| {
            Err(BrokenOff::Own(match end {
                End::TooLong => "the answer is too long to be shared; see limits.hold".into(),
                _ => "the call that this one joined broke off".into(),
            }))
        })
    }

    /// Whether nothing is left.
    pub fn is_ended(&self) -> bool {
        self.ended
    }
}
