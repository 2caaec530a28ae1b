//! A call as a line: JSON for programs, text for people.
//!
//! Promises: one line each, whatever a caller wrote; times in milliseconds from the call's arrival.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Attempted, Call};
use super::json::{Object, name, object};
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

/// The names of the members are kept to: programs read them.
fn json_at(time: &str, call: &Call, to: &mut Vec<u8>) {
    let trace = call.context.map(|context| context.trace_digits());
    let trace = trace
        .as_ref()
        .map(|digits| str::from_utf8(digits).expect("digits are ASCII"));
    object(to, |line| {
        line.word(name!("time"), Some(time));
        line.word(
            name!("request_id"),
            call.id.as_ref().and_then(|id| id.to_str().ok()),
        );
        line.word(name!("trace_id"), trace);
        line.text(name!("key"), call.key.as_deref());
        line.word(name!("method"), Some(call.method.as_str()));
        line.text(name!("path"), Some(&call.path));
        line.text(name!("route"), call.route.as_deref());
        line.text(name!("model"), call.model.as_deref());
        line.flag(name!("stream"), call.streamed);
        line.number(name!("status"), Some(call.status.into()));
        line.word(name!("outcome"), Some(call.outcome));
        line.word(name!("why"), call.why);
        line.text(
            name!("target"),
            call.target.as_ref().map(|target| &*target.label),
        );
        line.word(name!("joined"), call.joined);
        line.flag(name!("demoted"), call.outcome == "demoted");
        line.word(name!("job"), call.job.as_deref());
        line.millis(name!("budget_ms"), call.budget);
        line.flag(name!("over_budget"), call.over);
        line.millis(name!("upload_ms"), Some(call.upload));
        line.millis(name!("queue_ms"), Some(call.queued));
        line.millis(name!("own_ms"), call.own);
        line.millis(name!("first_token_ms"), call.first_token);
        line.millis(name!("total_ms"), Some(call.took()));
        line.number(name!("input_tokens"), call.usage.prompt_tokens);
        line.number(name!("output_tokens"), call.usage.completion_tokens);
        line.objects(name!("attempts"), call.attempts.iter(), |line, one| {
            attempt(call, one, line);
        });
    });
    to.push(b'\n');
}

fn attempt(call: &Call, one: &Attempted, line: &mut Object<'_>) {
    let since = |moment: Instant| moment.saturating_duration_since(call.arrived);
    line.text(name!("target"), Some(&one.target.label));
    line.word(name!("kind"), Some(one.kind.as_str()));
    line.millis(name!("start_ms"), Some(since(one.started)));
    line.millis(
        name!("first_token_ms"),
        one.first_content.filter(|_| call.streamed).map(since),
    );
    line.millis(name!("end_ms"), Some(since(one.ended)));
    line.word(name!("result"), Some(one.came.as_str()));
    line.number(name!("status"), one.status.map(u64::from));
    line.word(name!("error"), one.error);
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
