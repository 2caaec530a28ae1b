//! What a receiver is told: the job, and the provider's answer byte for byte where it is JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cold::background;
use crate::cold::job::{Job, Status, StoredAnswer, UnixMillis};

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

/// What is told of a job's answer.
#[derive(Clone, Copy)]
pub enum Told<'a> {
    /// There is none.
    Nothing,
    /// All of it.
    Answer(&'a StoredAnswer),
    /// It is long: the path where it is to be fetched.
    Elsewhere,
}

/// The body of a callback. A job in OpenAI's background shape is told in OpenAI's own event.
pub fn body(job: &Job, answer: Told) -> Vec<u8> {
    let inline = match answer {
        Told::Answer(answer) => Some(answer),
        Told::Nothing | Told::Elsewhere => None,
    };
    if job.background.is_some() {
        return event(job, inline);
    }
    let elsewhere = matches!(answer, Told::Elsewhere);
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

/// The event that `client.webhooks.unwrap` takes. Its id is the job's: every delivery is the same.
fn event(job: &Job, answer: Option<&StoredAnswer>) -> Vec<u8> {
    let status = answer.filter(|_| job.status == Status::Succeeded);
    let status = status.and_then(background::status);
    let status = match status.as_deref() {
        Some("failed") => "failed",
        Some("cancelled") => "cancelled",
        Some("incomplete") => "incomplete",
        _ => background::word(job.status),
    };
    let moment = job.finished_at.unwrap_or_else(UnixMillis::now);
    let event = serde_json::json!({
        "id": job.id.as_str().replacen("job_", "evt_", 1),
        "object": "event",
        "type": format!("response.{status}"),
        "created_at": moment.0 / 1_000,
        "data": {"id": background::response_id(&job.id)},
    });
    event.to_string().into_bytes()
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
