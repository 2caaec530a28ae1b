//! What a receiver is told: the job, and the provider's answer byte for byte where it is JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cold::job::{Job, StoredAnswer, UnixMillis};

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: String,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    job: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Answer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_url: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    status: u16,
    headers: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// The body of a callback. An answer longer than `inline_limit` is left out, with the path where
/// it is to be fetched.
pub fn body(job: &Job, answer: Option<&StoredAnswer>, inline_limit: usize) -> Vec<u8> {
    let inline = answer.filter(|answer| answer.body.len() <= inline_limit);
    let elsewhere = answer.is_some() && inline.is_none();
    // The same bytes at every delivery: how often it was tried is no part of what is told.
    let mut job = job.clone();
    if let Some(callback) = &mut job.callback {
        callback.deliveries = 0;
        callback.last_error = None;
    }
    let envelope = Envelope {
        r#type: format!("job.{}", job.status.as_str()),
        timestamp: job.finished_at.unwrap_or_else(UnixMillis::now).to_string(),
        data: Data {
            job: job.to_json(),
            response: inline.map(told),
            response_url: elsewhere.then(|| format!("/jobs/{}/result", job.id)),
        },
    };
    serde_json::to_vec(&envelope).expect("strings, numbers and raw JSON can be written")
}

fn told(answer: &StoredAnswer) -> Answer<'_> {
    let json = std::str::from_utf8(&answer.body)
        .ok()
        .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| name != "set-cookie")
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value).into_owned();
            (name.clone(), value.into())
        })
        .collect();
    Answer {
        status: answer.status,
        headers,
        body: json,
        body_base64: json.is_none().then(|| STANDARD.encode(&answer.body)),
    }
}
