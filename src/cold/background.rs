//! OpenAI's background shape of a job: the object that `/v1/responses` answers with.
//!
//! Promises: one id for the whole life, the job's own 128 bits under OpenAI's prefix; what the
//! provider answered stands in it byte for byte but for `id` and `background`. Pure data: no I/O.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::job::{Job, JobId, Status, StoredAnswer, header_map};
use crate::config::Dialect;
use crate::upstream::media::is_event_stream;
use crate::upstream::scan::{find, members, replaced};
use crate::upstream::sse::{Lines, data};

/// Longest `metadata` that is kept; `OpenAI` itself takes 16 pairs of 64 and 512 characters.
const LONGEST: usize = 16 << 10;

/// What an unfinished response tells of its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Background {
    /// `model`, as the caller wrote it.
    pub model: Option<String>,
    /// `metadata`: a JSON object.
    pub metadata: Option<Value>,
    /// Whether a stream was asked for.
    pub stream: bool,
}

impl Background {
    /// Of a call that makes a response; `None` for every other.
    pub fn of(dialect: Dialect, post: bool, path: &str, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Asked<'a> {
            model: Option<String>,
            #[serde(borrow)]
            metadata: Option<&'a RawValue>,
            stream: Option<bool>,
        }
        if dialect != Dialect::Openai || !post || !path.ends_with("/responses") {
            return None;
        }
        let asked: Asked = serde_json::from_slice(body).ok()?;
        let metadata = asked.metadata.filter(|raw| raw.get().len() <= LONGEST);
        Some(Self {
            model: asked.model,
            metadata: metadata.and_then(|raw| serde_json::from_str(raw.get()).ok()),
            stream: asked.stream.unwrap_or(false),
        })
    }
}

/// A job's name as a response.
pub fn response_id(id: &JobId) -> String {
    id.as_str().replacen("job_", "resp_", 1)
}

/// The job that a response's name stands for, if it may be one.
pub fn job_id(response: &str) -> Option<JobId> {
    JobId::parse(&format!("job_{}", response.strip_prefix("resp_")?))
}

/// `OpenAI`'s word for where a job stands.
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Queued => "queued",
        Status::Running => "in_progress",
        Status::Succeeded => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::Expired => "incomplete",
    }
}

/// A job as a response without output; with the reason where it ended without an answer.
pub fn object(job: &Job, background: &Background, answer: Option<&StoredAnswer>) -> Value {
    let error = job.error.as_ref().filter(|_| job.status == Status::Failed);
    let error = error.map(|error| {
        let told = answer.and_then(|answer| told(&answer.body));
        let (code, message) = told.unwrap_or(("server_error".into(), error.message.clone()));
        json!({"code": code, "message": message})
    });
    let expired = job.status == Status::Expired;
    let incomplete = expired.then(|| json!({"reason": "expired"}));
    json!({
        "id": response_id(&job.id),
        "object": "response",
        "created_at": job.created_at.0 / 1_000,
        "status": word(job.status),
        "background": true,
        "error": error,
        "incomplete_details": incomplete,
        "instructions": null,
        "model": background.model,
        "output": [],
        "parallel_tool_calls": true,
        "tool_choice": "auto",
        "tools": [],
        "usage": null,
        "metadata": background.metadata.clone().unwrap_or_else(|| json!({})),
    })
}

/// The code and the message of a provider's error.
fn told(body: &[u8]) -> Option<(String, String)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    let message = error.get("message")?.as_str()?.to_owned();
    let code = [error.get("code"), error.get("type")];
    let code = code.into_iter().flatten().find_map(Value::as_str);
    Some((code.unwrap_or("server_error").to_owned(), message))
}

/// The response within an answer: the body, or what the last event of a stream carries.
fn within(answer: &StoredAnswer) -> Option<Bytes> {
    if !is_event_stream(&header_map(&answer.headers)) {
        return Some(answer.body.clone());
    }
    let mut found = None;
    let mut seen = |line: &[u8]| {
        if let Some(inner) = data(line).and_then(carried) {
            found = Some(inner);
        }
    };
    let mut lines = Lines::default();
    lines.feed(&answer.body, &mut seen);
    lines.feed(b"\n", &mut seen);
    found
}

/// The whole response that an event tells with its end.
fn carried(payload: &[u8]) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        response: Option<&'a RawValue>,
    }
    let event: Event = serde_json::from_slice(payload).ok()?;
    let last = ["completed", "incomplete", "failed", "cancelled"];
    let kind = event.kind.strip_prefix("response.")?;
    let response = event.response.filter(|_| last.contains(&kind))?;
    Some(Bytes::copy_from_slice(response.get().as_bytes()))
}

#[derive(Deserialize)]
struct Head<'a> {
    id: Option<&'a str>,
    object: Option<&'a str>,
    status: Option<&'a str>,
}

/// What a provider's own response says of its state.
pub fn status(answer: &StoredAnswer) -> Option<String> {
    let body = within(answer)?;
    let head: Head = serde_json::from_slice(&body).ok()?;
    head.status.map(str::to_owned)
}

/// A response's own name, by which its provider knows it.
pub fn name(answer: &StoredAnswer) -> Option<String> {
    let body = within(answer)?;
    let head: Head = serde_json::from_slice(&body).ok()?;
    head.id.map(str::to_owned)
}

/// A provider's response under this job's name. `None`: it is no response, or one that the
/// provider itself works on in the background, under its own name.
pub fn finished(job: &Job, answer: &StoredAnswer) -> Option<Bytes> {
    let body = within(answer)?;
    let head: Head = serde_json::from_slice(&body).ok()?;
    let unfinished = matches!(head.status, Some("queued" | "in_progress"));
    if head.object != Some("response") || unfinished {
        return None;
    }
    renamed(&body, &response_id(&job.id)).map(Bytes::from)
}

/// A response with another `id` and with `background: true`; the rest stays as it is.
pub fn renamed(body: &[u8], id: &str) -> Option<Vec<u8>> {
    let name = format!("\"{id}\"");
    let (mut at_id, mut at_background) = (None, None);
    members(body, |member| {
        match find(&body[member.name], &["id", "background"]) {
            Some(0) => at_id = Some(member.value),
            Some(_) => at_background = Some(member.value),
            None => {}
        }
        Ok(())
    })
    .ok()?;
    let background: (Range<usize>, &[u8]) = if let Some(at) = at_background {
        (at, b"true")
    } else {
        let open = body.iter().position(|byte| *byte == b'{')? + 1;
        (open..open, br#""background":true,"#)
    };
    Some(replaced(body, [(at_id?, name.as_bytes()), background]))
}

/// An event's payload with the response that it carries under another name.
pub fn event_renamed(payload: &[u8], id: &str) -> Option<Vec<u8>> {
    let mut at = None;
    members(payload, |member| {
        if find(&payload[member.name], &["response"]).is_some() {
            at = Some(member.value);
        }
        Ok(())
    })
    .ok()?;
    let at = at?;
    let response = renamed(&payload[at.clone()], id)?;
    Some(replaced(payload, [(at, &response[..])]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_keeps_its_bytes_but_for_its_name_and_its_background() {
        let of = |body: &str| {
            let made = renamed(body.as_bytes(), "resp_new").unwrap();
            String::from_utf8(made).unwrap()
        };
        assert_eq!(
            of(
                r#"{"n": 1.000, "id" : "x", "output":[{"id":"y","background":1}],"background":false}"#
            ),
            r#"{"n": 1.000, "id" : "resp_new", "output":[{"id":"y","background":1}],"background":true}"#
        );
        assert_eq!(
            of(r#" {"id":"x"}"#),
            r#" {"background":true,"id":"resp_new"}"#
        );
        // A name may be written with escapes.
        assert_eq!(
            of(r#"{"id":"x","\u0069d":"x","b\u0061ckground":false}"#),
            r#"{"id":"x","\u0069d":"resp_new","b\u0061ckground":true}"#
        );
        assert_eq!(renamed(b"no json", "resp_new"), None);
        let event = br#"{"type":"response.completed","response":{"id":"x"},"sequence_number":3}"#;
        let made = event_renamed(event, "r").unwrap();
        assert_eq!(
            String::from_utf8(made).unwrap(),
            r#"{"type":"response.completed","response":{"background":true,"id":"r"},"sequence_number":3}"#
        );
    }

    #[test]
    fn only_a_call_that_makes_a_response_has_this_shape() {
        let body = br#"{"model":"m","metadata":{"a":"b"},"stream":true}"#;
        let of = |dialect, post, path| Background::of(dialect, post, path, body);
        let found = of(Dialect::Openai, true, "/v1/responses").unwrap();
        assert_eq!(found.model.as_deref(), Some("m"));
        assert_eq!(found.metadata, Some(json!({"a": "b"})));
        assert!(found.stream);
        assert_eq!(of(Dialect::Openai, true, "/v1/chat/completions"), None);
        assert_eq!(of(Dialect::Openai, false, "/v1/responses"), None);
        assert_eq!(of(Dialect::Plain, true, "/v1/responses"), None);
    }

    #[test]
    fn a_name_leads_back_to_its_job() {
        let id = JobId::random();
        assert_eq!(job_id(&response_id(&id)), Some(id));
        assert_eq!(job_id("resp_1"), None);
    }
}
