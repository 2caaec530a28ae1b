//! A call as a line: JSON for programs, text for people.
//!
//! Promises: one line each, whatever a caller wrote; times in milliseconds from the call's arrival.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::call::{Attempted, Call};
use crate::cold::job::UnixMillis;
use crate::config::{AccessLog, LogFormat};

/// Writes a call, with the line's end.
pub(super) type Format = fn(&Call, &mut Vec<u8>);

/// How calls are to be written; `None`: they are not.
pub(super) fn format(config: &AccessLog) -> Option<Format> {
    match config.format {
        LogFormat::Off => None,
        LogFormat::Text => Some(text),
        LogFormat::Auto if config.file.is_none() && io::stdout().is_terminal() => Some(text),
        LogFormat::Auto | LogFormat::Json => Some(json),
    }
}

/// The names of the fields are kept to: programs read them.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    request_id: Option<&'a str>,
    trace_id: Option<&'a str>,
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
    attempts: Attempts<'a>,
}

struct Attempts<'a>(&'a Call);

impl Serialize for Attempts<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.attempts.iter().map(|one| attempt(self.0, one)))
    }
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

/// JSON whose fractions are milliseconds with three digits after the point: to look for the shortest
/// digits of a number of any size takes ten times as long as these.
struct Millis;

impl Formatter for Millis {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time since a call's arrival; `as` saturates"
    )]
    fn write_f64<W: ?Sized + io::Write>(&mut self, to: &mut W, millis: f64) -> io::Result<()> {
        let micros = (millis * 1e3).round() as u64;
        let (mut whole, mut rest) = (itoa::Buffer::new(), itoa::Buffer::new());
        to.write_all(whole.format(micros / 1_000).as_bytes())?;
        to.write_all(b".")?;
        // Four digits, of which the first keeps zeros in their places.
        to.write_all(&rest.format(1_000 + micros % 1_000).as_bytes()[1..])
    }
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

thread_local! {
    /// The last moment that this thread wrote, as text: many calls arrive in one millisecond.
    static LAST: RefCell<(UnixMillis, String)> = const { RefCell::new((UnixMillis(i64::MIN), String::new())) };
}

/// Writes a call as JSON, with the line's end.
pub(super) fn json(call: &Call, to: &mut Vec<u8>) {
    LAST.with_borrow_mut(|(last, text)| {
        let moment = moment(call);
        if *last != moment {
            (*last, *text) = (moment, moment.to_string());
        }
        json_at(text, call, to);
    });
}

fn json_at(time: &str, call: &Call, to: &mut Vec<u8>) {
    let trace = call.context.map(|context| context.trace_digits());
    let line = Line {
        time,
        request_id: call.id.as_ref().and_then(|id| id.to_str().ok()),
        trace_id: trace
            .as_ref()
            .map(|digits| str::from_utf8(digits).expect("digits are ASCII")),
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
        attempts: Attempts(call),
    };
    let mut json = serde_json::Serializer::with_formatter(&mut *to, Millis);
    line.serialize(&mut json)
        .expect("text and numbers are JSON");
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
