//! Keeps a stream's connection busy until its first token, for balancers that cut silent ones.
//!
//! After the first such time the answer is begun: status 200 and comments (server-sent events,
//! WHATWG HTML 9.2), which every client ignores. Promises: an error that comes after that is an
//! event in the API's own shape; a call that may become a job is never begun so, since its 202
//! could not follow. Dropping the body drops the race.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::answer::{ROUTE, refuse};
use super::budget::Then;
use super::ready::{Ready, Refusal};
use super::relay::{AnswerBody, BrokenOff, Worth};
use super::route::Route;
use crate::config::{Dialect, Switch};
use crate::upstream::media::is_event_stream;

const COMMENT: &[u8] = b": keepalive\n\n";

/// A race under way.
pub(super) type Racing =
    Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Refusal>> + Send>>;

/// How often this call's connection is to be kept busy.
pub(super) fn wanted(ready: &Ready) -> Option<Duration> {
    period(&ready.route, ready.call.streamed, ready.deadline.then)
}

/// The same of a call of this route, by what follows on its deadline.
pub(super) fn period(route: &Route, streamed: bool, then: Then) -> Option<Duration> {
    match route.budget.keepalive {
        Switch::Every(period) if streamed && route.dialect != Dialect::Plain && !then.is_job() => {
            Some(period.get())
        }
        _ => None,
    }
}

/// The race's own answer if it comes in time, else one that waits for it. Of an answer that is no stream
/// so many bytes are told, or none.
pub(super) async fn answer(
    mut racing: Racing,
    every: Duration,
    route: &Route,
    limit: usize,
) -> Result<Response<AnswerBody>, Refusal> {
    if let Ok(done) = timeout(every, &mut racing).await {
        return done;
    }
    let waiting = Waiting {
        state: State::Racing(racing),
        every,
        timer: Box::pin(sleep(Duration::ZERO)),
        dialect: route.dialect,
        limit,
    };
    let mut response = Response::new(AnswerBody::Waiting(Box::new(waiting)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ROUTE, route.tag.clone());
    Ok(response)
}

/// An answer that was begun before its race ended.
pub struct Waiting {
    state: State,
    every: Duration,
    timer: Pin<Box<Sleep>>,
    dialect: Dialect,
    /// Bytes of an answer that can be told as an event.
    limit: usize,
}

enum State {
    Racing(Racing),
    /// The winner is a stream.
    Passing(AnswerBody),
    /// The winner is something else: read, to be told as one event.
    Reading(Response<AnswerBody>, BytesMut),
    /// What came was told as an event.
    Ended,
}

impl Waiting {
    /// The next frame.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            match &mut self.state {
                State::Racing(racing) => match racing.as_mut().poll(context) {
                    Poll::Ready(done) => self.state = raced(done.unwrap_or_else(refuse)),
                    Poll::Pending => {
                        ready!(self.timer.as_mut().poll(context));
                        self.timer.as_mut().reset(Instant::now() + self.every);
                        let comment = Bytes::from_static(COMMENT);
                        return Poll::Ready(Some(Ok(Frame::data(comment))));
                    }
                },
                State::Passing(body) => return Pin::new(body).poll_frame(context),
                State::Reading(response, read) => {
                    let next = ready!(Pin::new(response.body_mut()).poll_frame(context));
                    let more = next
                        .and_then(Result::ok)
                        .and_then(|one| one.into_data().ok());
                    if let Some(data) = more {
                        // Read to its end in any case: it is an answer that was given.
                        let room = (self.limit + 1).saturating_sub(read.len());
                        read.extend_from_slice(&data[..data.len().min(room)]);
                        continue;
                    }
                    let whole = read.len() <= self.limit;
                    let read = if whole { &read[..] } else { &[] };
                    let told = event(self.dialect, response.status().as_u16(), read);
                    self.state = State::Ended;
                    return Poll::Ready(Some(Ok(Frame::data(told))));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    /// What it was worth; what is no stream is an error, mostly.
    pub fn worth(&self) -> Worth {
        match &self.state {
            State::Passing(body) => body.worth(),
            State::Racing(_) => Worth::Whole,
            State::Reading(..) | State::Ended => Worth::Failed,
        }
    }

    /// Whether nothing is left.
    pub fn is_ended(&self) -> bool {
        match &self.state {
            State::Passing(body) => body.is_end_stream(),
            State::Ended => true,
            State::Racing(_) | State::Reading(..) => false,
        }
    }
}

fn raced(response: Response<AnswerBody>) -> State {
    if response.status().is_success() && is_event_stream(response.headers()) {
        State::Passing(response.into_body())
    } else {
        State::Reading(response, BytesMut::new())
    }
}

/// An answer that is no stream, as an event.
fn event(dialect: Dialect, status: u16, body: &[u8]) -> Bytes {
    let told = serde_json::from_slice(body).unwrap_or_else(|_| {
        json!({"type": "error", "error": {"type": "server_error", "code": null,
            "message": format!("the provider answered with status {status}")}})
    });
    // Written again, so that it stands in one line.
    let told = Value::to_string(&told);
    let name = match dialect {
        Dialect::Anthropic if !(200..300).contains(&status) => "event: error\n",
        _ => "",
    };
    format!("{name}data: {told}\n\n").into()
}
