//! A call as a line: JSON for programs, text for people.
//!
//! Promises: one line each, whatever a caller wrote; times in milliseconds from the call's arrival.

use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::call::{Attempted, Call};
use crate::cold::job::UnixMillis;

/// The names of the fields are kept to: programs read them.
#[derive(Serialize)]
struct Line<'a> {
    time: UnixMillis,
    request_id: Option<&'a str>,
    trace_id: Option<String>,
    key: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    route: Option<&'a str>,
    model: Option<&'a str>,
    stream: bool,
    status: u16,
    outcome: &'a str,
    why: Option<&'a str>,
    target: Option<&'a str>,
    joined: Option<&'a str>,
    demoted: bool,
    job: Option<&'a str>,
    budget_ms: Option<f64>,
    over_budget: bool,
    upload_ms: f64,
    queue_ms: f64,
    own_ms: Option<f64>,
    first_token_ms: Option<f64>,
    total_ms: f64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    attempts: Vec<Attempt<'a>>,
}

#[derive(Serialize)]
struct Attempt<'a> {
    target: &'a str,
    kind: &'a str,
    start_ms: f64,
    first_token_ms: Option<f64>,
    end_ms: f64,
    result: &'a str,
    status: Option<u16>,
    error: Option<&'a str>,
}

/// Milliseconds with three digits after the point.
fn millis(time: Duration) -> f64 {
    let micros = u32::try_from(time.as_micros()).map_or(time.as_micros() as f64, f64::from);
    micros / 1e3
}

fn attempt<'a>(call: &Call, one: &'a Attempted) -> Attempt<'a> {
    let since =
        |moment: tokio::time::Instant| millis(moment.saturating_duration_since(call.arrived));
    Attempt {
        target: &one.target.label,
        kind: one.kind.as_str(),
        start_ms: since(one.started),
        first_token_ms: one.first_content.filter(|_| call.streamed).map(since),
        end_ms: since(one.ended),
        result: one.came.as_str(),
        status: one.status,
        error: one.error,
    }
}

fn moment(call: &Call) -> UnixMillis {
    let since = call.wall.duration_since(std::time::UNIX_EPOCH);
    UnixMillis(i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
}

/// Writes a call as JSON, with the line's end.
pub(super) fn json(call: &Call, to: &mut Vec<u8>) {
    let line = Line {
        time: moment(call),
        request_id: call.id.as_ref().and_then(|id| id.to_str().ok()),
        trace_id: call
            .context
            .map(|context| format!("{:032x}", context.trace)),
        key: call.key.as_deref(),
        method: call.method.as_str(),
        path: &call.path,
        route: call.route.as_deref(),
        model: call.model.as_deref(),
        stream: call.streamed,
        status: call.status,
        outcome: call.outcome,
        why: call.why,
        target: call.target.as_ref().map(|target| target.label.as_str()),
        joined: call.joined,
        demoted: call.outcome == "demoted",
        job: call.job.as_deref(),
        budget_ms: call.budget.map(millis),
        over_budget: call.over,
        upload_ms: millis(call.upload),
        queue_ms: millis(call.queued),
        own_ms: call.own.map(millis),
        first_token_ms: call.first_token.map(millis),
        total_ms: millis(call.took()),
        input_tokens: call.usage.prompt_tokens,
        output_tokens: call.usage.completion_tokens,
        attempts: call.attempts.iter().map(|one| attempt(call, one)).collect(),
    };
    serde_json::to_writer(&mut *to, &line).expect("text and numbers are JSON");
    to.push(b'\n');
}

/// Writes a call for a person to read, with the line's end:
/// `10:00:00.123 POST /v1/chat/completions 200 served chat openai 812ms first 230ms 2 attempts`.
pub(super) fn text(call: &Call, to: &mut Vec<u8>) {
    let moment = moment(call).to_string();
    let clock = moment.get(11..23).unwrap_or(&moment);
    let mut line = format!(
        "{clock} {} {} {} {}",
        call.method, call.path, call.status, call.outcome
    );
    let mut add = |what: &str| {
        line.push(' ');
        line.push_str(what);
    };
    for known in [call.route.as_deref(), call.model.as_deref()] {
        add(known.unwrap_or("-"));
    }
    add(call.target.as_ref().map_or("-", |target| &target.label));
    add(&format!("{:.1}ms", millis(call.took())));
    if let Some(first) = call.first_token {
        add(&format!("first {:.1}ms", millis(first)));
    }
    if !call.queued.is_zero() {
        add(&format!("queued {:.1}ms", millis(call.queued)));
    }
    if call.attempts.len() > 1 {
        let each = call.attempts.iter();
        let each: Vec<_> = each
            .map(|one| {
                format!(
                    "{} {} {}",
                    one.kind.as_str(),
                    one.target.label,
                    one.came.as_str()
                )
            })
            .collect();
        add(&format!("({})", each.join(", ")));
    }
    for (name, known) in [("why", call.why), ("joined", call.joined)] {
        if let Some(known) = known {
            add(&format!("{name}={known}"));
        }
    }
    if let Some(job) = &call.job {
        add(job);
    }
    // A path or a model may hold what a terminal takes for a command.
    for one in line.chars() {
        let written = if one.is_control() {
            write!(to, "{}", one.escape_default())
        } else {
            write!(to, "{one}")
        };
        written.expect("memory can be written");
    }
    to.push(b'\n');
}
