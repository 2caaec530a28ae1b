//! A job's events as server-sent events: in Shunt's own form, and as `OpenAI` streams a response.
//!
//! Promises: only its owner reads them; every event has an `id` that `Last-Event-ID` takes back;
//! they end with the final state, a comment each 15 s until then.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::own;
use super::background::{Background, event_renamed, object, response_id, word};
use super::cursor::{Place, named};
use super::follow::{Follow, Step};
use super::job::{Job, Status};
use super::runner::Runner;
use super::store::StoreError;
use crate::problem::Named;
use crate::upstream::sse::{Lines, data};

/// `GET /jobs/{id}/events`.
pub(super) async fn events(
    State(runner): State<Arc<Runner>>,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let job = own(&runner, &id, &headers).await?;
    let last = headers.get("last-event-id");
    let place = last.and_then(|last| Place::parse(last.to_str().ok()?));
    let place = place.unwrap_or_default();
    if place.status.is_some_and(Status::is_final) {
        // All was told: this ends an EventSource's coming back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follow = Follow::new(runner, job.id, place);
    Ok(streamed(follow, |step, place| {
        Some((shown(&step, place), false))
    }))
}

fn shown(step: &Step, place: &Place) -> Bytes {
    let id = place.name();
    let text = match step {
        Step::Quiet => return Bytes::from_static(b": keep-alive\n\n"),
        Step::Event(event, None) => return named(event, &id).into(),
        Step::Event(event, Some(came)) => {
            let mut told = format!(": {} ms\n", came.as_millis()).into_bytes();
            told.extend_from_slice(&named(event, &id));
            return told.into();
        }
        Step::Restart => format!("id: {id}\nevent: restart\ndata: {{}}\n\n"),
        Step::Status(job) | Step::End(job) => {
            format!("id: {id}\nevent: status\ndata: {}\n\n", job.to_json())
        }
    };
    text.into()
}

/// An answer of what is made of each step; `true` ends it.
fn streamed(
    follow: Follow,
    show: impl FnMut(Step, &Place) -> Option<(Bytes, bool)> + Send + 'static,
) -> Response {
    let body = unfold(
        (follow, show, false),
        async |(mut follow, mut show, over)| {
            if over {
                return None;
            }
            loop {
                let step = match follow.next().await {
                    Ok(step) => step?,
                    // Broken off, so that the reader comes back.
                    Err(error) => return Some((Err(error), (follow, show, true))),
                };
                if let Some((bytes, last)) = show(step, &follow.place) {
                    return Some((Ok::<_, StoreError>(bytes), (follow, show, last)));
                }
            }
        },
    );
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    (head, Body::from_stream(body)).into_response()
}

/// `GET /v1/responses/{id}?stream=true`: the provider's events under the response's own name, those
/// numbered above `after`.
pub(super) fn responses(
    runner: Arc<Runner>,
    job: Job,
    background: Background,
    after: Option<u64>,
) -> Response {
    let mut reader = Reader::new(response_id(&job.id), background, after);
    let follow = Follow::new(runner, job.id, Place::default());
    streamed(follow, move |step, _| reader.show(step))
}

/// Retells a provider's events to one who reads its response under another name.
pub struct Reader {
    name: String,
    background: Background,
    /// The least `sequence_number` that is passed on.
    next: u64,
    sent: bool,
}

impl Reader {
    /// One who has read up to the number `after`.
    pub fn new(name: String, background: Background, after: Option<u64>) -> Self {
        Self {
            name,
            background,
            next: after.map_or(0, |after| after.saturating_add(1)),
            sent: false,
        }
    }

    fn show(&mut self, step: Step) -> Option<(Bytes, bool)> {
        match step {
            Step::Quiet => Some((Bytes::from_static(b": keep-alive\n\n"), false)),
            Step::Event(event, _) => Some((self.event(&event)?, false)),
            // Its numbers would tell of other words than before.
            Step::Restart if self.sent || self.next > 0 => {
                let why = "the provider's stream broke and was begun again; read it from its start";
                let error = json!({"type": "error", "code": "server_error", "message": why,
                    "param": null, "sequence_number": self.next});
                Some((event("error", &error.to_string()), true))
            }
            Step::Status(_) | Step::Restart => None,
            Step::End(job) if job.status == Status::Succeeded => Some((Bytes::new(), true)),
            Step::End(job) => {
                // The SDK knows no event of a cancelled response; the response itself says it.
                let kind = match job.status {
                    Status::Cancelled => "response.failed".to_owned(),
                    status => format!("response.{}", word(status)),
                };
                let told: Value = json!({"type": kind, "sequence_number": self.next,
                    "response": object(&job, &self.background, None)});
                Some((event(&kind, &told.to_string()), true))
            }
        }
    }

    /// An event in its new words; `None`: it was told before.
    pub fn event(&mut self, whole: &[u8]) -> Option<Bytes> {
        #[derive(Deserialize)]
        struct Numbered<'a> {
            #[serde(rename = "type", borrow)]
            kind: Option<&'a str>,
            sequence_number: Option<u64>,
        }
        let mut payload = Vec::new();
        let mut take = |line: &[u8]| payload.extend_from_slice(data(line).unwrap_or_default());
        let mut lines = Lines::default();
        lines.feed(whole, &mut take);
        lines.feed(b"\n", &mut take);
        let Ok(told) = serde_json::from_slice::<Numbered>(&payload) else {
            return Some(Bytes::copy_from_slice(whole));
        };
        if let Some(number) = told.sequence_number {
            if number < self.next {
                return None;
            }
            self.next = number.saturating_add(1);
        }
        self.sent = true;
        let kind = told.kind.unwrap_or("message");
        let renamed = event_renamed(&payload, &self.name);
        let payload = renamed.as_deref().unwrap_or(&payload);
        Some(event(kind, &String::from_utf8_lossy(payload)))
    }
}

fn event(kind: &str, payload: &str) -> Bytes {
    format!("event: {kind}\ndata: {payload}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found while the fuzz target `events` was written: the number after it was 0, and all was told again.
    #[test]
    fn the_last_of_all_numbers_is_followed_by_none() {
        let none = Background {
            model: None,
            metadata: None,
            stream: true,
        };
        let mut reader = Reader::new("resp_0".into(), none, None);
        let mut told = |number: u64| {
            let event = format!("data: {{\"type\":\"x\",\"sequence_number\":{number}}}\n\n");
            reader.event(event.as_bytes()).is_some()
        };
        assert!(told(3) && told(u64::MAX));
        assert!(!told(0) && !told(4));
    }
}
