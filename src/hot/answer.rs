//! Answers: a provider's on its way, a refusal, and the headers that the gateway adds.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::Instant;

use super::error;
use super::ready::{Ready, Refusal};
use super::record::Record;
use super::relay::{AnswerBody, Relay};
use crate::digits::{hex, millis};
use crate::meter::Outcome;
use crate::upstream::attempt::Attempt;
use crate::upstream::passing::keep_what_passes;

/// Headers that the gateway adds to an answer.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-shunt-request-id");
const TARGET: HeaderName = HeaderName::from_static("x-shunt-target");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-shunt-attempts");
pub(super) const ROUTE: HeaderName = HeaderName::from_static("x-shunt-route");
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Whether a header line of an answer is the gateway's own, and so tells of one call only.
pub(super) fn is_ours(name: &str, value: &[u8]) -> bool {
    name.starts_with("x-shunt-") || (name == SERVER_TIMING && value.starts_with(b"shunt;"))
}

/// How many they are.
const ADDED: usize = 5;

/// The answer to a call that is refused.
pub(super) fn refuse(refusal: Refusal) -> Response<AnswerBody> {
    let mut response = error::response(refusal.dialect, refusal.code, &refusal.message);
    if let Some(mut record) = refusal.record {
        record.because(refusal.code.as_str());
        let (own, provider) = record.answers(None, refusal.code.status().as_u16());
        mark(response.headers_mut(), &record, own, provider);
        record.finish(Outcome::Failed);
    }
    response.map(AnswerBody::from)
}

/// The answer of a provider, on its way to the caller.
pub(super) fn respond(
    ready: Box<Ready>,
    mut attempt: Box<Attempt>,
    made: usize,
) -> Response<AnswerBody> {
    let Ready {
        mut record,
        arrived,
        ..
    } = *ready;
    let target = attempt.target().clone();
    let mut response = Response::new(());
    if let Some(head) = attempt.take_head() {
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
    }
    keep_what_passes(response.headers_mut());
    response.headers_mut().reserve(ADDED);
    let (now, status) = (Instant::now(), response.status().as_u16());
    let (own, provider) = record.answers_at(Some(target.clone()), status, now);
    let headers = response.headers_mut();
    mark(headers, &record, own, provider);
    headers.insert(TARGET, target.tag.clone());
    headers.insert(ATTEMPTS, attempts_made(made));
    let relay = Relay::new(attempt, record, arrived, now);
    response.map(|()| AnswerBody::Relay(Box::new(relay)))
}

/// A count; most calls are made once.
fn attempts_made(made: usize) -> HeaderValue {
    match made {
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        more => more.into(),
    }
}

/// Marks an answer with its route and its times.
pub(super) fn mark(headers: &mut HeaderMap, record: &Record, own: Duration, provider: Duration) {
    // Written in place: the longest has two numbers of 20 digits.
    let mut timing = BytesMut::with_capacity(80);
    timing.extend_from_slice(b"shunt;dur=");
    millis(own, &mut timing);
    timing.extend_from_slice(b", provider;dur=");
    millis(provider, &mut timing);
    if let Ok(timing) = HeaderValue::from_maybe_shared(timing.freeze()) {
        headers.append(SERVER_TIMING, timing);
    }
    headers.insert(ROUTE, record.route().tag.clone());
}

/// A name for one call: 128 random bits.
pub(super) fn request_id() -> HeaderValue {
    let mut text = *b"req_00000000000000000000000000000000";
    hex(&rand::random::<[u8; 16]>(), &mut text[4..]);
    HeaderValue::from_bytes(&text).expect("letters and digits are a header value")
}
