//! A call as a line: JSON for programs, text for people.
//!
//! Promises: one line each, whatever a caller wrote; times in milliseconds from the call's arrival.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Attempted, Call};
use super::forms::Forms;
use super::json::{Form, Members, Word};
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

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn moment(call: &Call) -> UnixMillis {
    let since = call.wall.duration_since(std::time::UNIX_EPOCH);
    UnixMillis(i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
}

/// What a thread wrote of late.
#[derive(Default)]
struct Late {
    /// A moment as text: many calls arrive in one millisecond.
    moment: Option<UnixMillis>,
    time: String,
    forms: Forms,
}

thread_local! {
    static LATE: RefCell<Late> = RefCell::default();
}

/// Writes a call as JSON, with the line's end.
pub(super) fn json(call: &Call, to: &mut Vec<u8>) {
    LATE.with_borrow_mut(|late| late.json(call, to));
}

impl Late {
    fn json(&mut self, call: &Call, to: &mut Vec<u8>) {
        let moment = moment(call);
        if self.moment != Some(moment) {
            (self.moment, self.time) = (Some(moment), moment.to_string());
        }
        let time = &self.time;
        let compose = |form: &mut Form| form.compose(|line| members(time, call, line));
        let form = self.forms.of(call, compose);
        form.fill(to, |line| members(time, call, line));
    }
}

/// The names of the members are kept to: programs read them. What is shared here is what
/// [`forms`](super::forms) looks at.
fn members(time: &str, call: &Call, line: &mut impl Members) {
    let trace = call.context.map(|context| context.trace_digits());
    let trace = trace
        .as_ref()
        .map(|digits| str::from_utf8(digits).expect("digits are ASCII"));
    let id = call.id.as_ref().and_then(|id| id.to_str().ok());
    let target = call.target.as_ref().map(|target| &*target.label);
    line.own("time", Word(time));
    line.own("request_id", id.map(Word));
    line.own("trace_id", trace.map(Word));
    line.shared("key", call.key.as_deref());
    line.shared("method", Word(call.method.as_str()));
    line.own("path", &*call.path);
    line.shared("route", call.route.as_deref());
    line.shared("model", call.model.as_deref());
    line.shared("stream", call.streamed);
    line.shared("status", u64::from(call.status));
    line.shared("outcome", Word(call.outcome));
    line.shared("why", call.why.map(Word));
    line.shared("target", target);
    line.shared("joined", call.joined.map(Word));
    line.shared("demoted", call.outcome == "demoted");
    line.shared("job", call.job.as_deref().map(Word));
    line.shared("budget_ms", call.budget);
    line.shared("over_budget", call.over);
    line.own("upload_ms", call.upload);
    line.own("queue_ms", call.queued);
    line.own("own_ms", call.own);
    of_stream("first_token_ms", call, call.first_token, line);
    line.own("total_ms", call.took());
    line.own("input_tokens", call.usage.prompt_tokens);
    line.own("output_tokens", call.usage.completion_tokens);
    line.objects("attempts", call.attempts.iter(), |line, one| {
        attempt(call, one, line);
    });
}

/// A time that only streams have.
fn of_stream(name: &'static str, call: &Call, time: Option<Duration>, line: &mut impl Members) {
    if call.streamed {
        line.own(name, time);
    } else {
        line.shared(name, None::<Duration>);
    }
}

fn attempt(call: &Call, one: &Attempted, line: &mut impl Members) {
    let since = |moment: Instant| moment.saturating_duration_since(call.arrived);
    line.shared("target", &*one.target.label);
    line.shared("kind", Word(one.kind.as_str()));
    line.own("start_ms", since(one.started));
    of_stream("first_token_ms", call, one.first_content.map(since), line);
    line.own("end_ms", since(one.ended));
    line.shared("result", Word(one.came.as_str()));
    line.shared("status", one.status.map(u64::from));
    line.shared("error", one.error.map(Word));
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
