//! A call, a job's run and a callback as spans, by OpenTelemetry's conventions for HTTP and for
//! generative AI.
//!
//! Promises: a span for the call, one within it for each attempt, one for its hand-off; further
//! attempts are linked to the first. A prompt and its answer stand in one of them, where `content` has
//! them: the attempt whose answer it is.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::Traced;
use super::call::{Attempted, Call, Came};
use super::content::Content;
use super::context::Context;
use super::span::{Attributes, Made, Spans};
use super::work::{Delivery, Run};
use crate::config::Dialect;
use crate::upstream::target::Target;

/// The spans of what was traced.
pub(super) fn of(traced: &Traced, to: &mut Spans) {
    match traced {
        Traced::Call(call) => of_call(call, to),
        Traced::Run(run) => of_run(run, to),
        Traced::Delivery(delivery) => of_delivery(delivery, to),
    }
}

/// What a path asks of a model, in the words of the conventions.
fn operation(path: &str) -> Option<&'static str> {
    let ends = |end: &str| path.ends_with(end);
    if ends("/chat/completions") || ends("/messages") || ends("/responses") {
        Some("chat")
    } else if ends("/embeddings") {
        Some("embeddings")
    } else if ends("/completions") {
        Some("text_completion")
    } else {
        None
    }
}

/// Writes those of a call behind others; gives how many they are.
pub(super) fn onto(call: &Call, others: &mut Vec<u8>) -> usize {
    let mut spans = Spans::behind(std::mem::take(others));
    of_call(call, &mut spans);
    *others = spans.encoded;
    spans.count
}

fn of_call(call: &Call, to: &mut Spans) {
    let Some(context) = call.context else { return };
    let name = match &call.route {
        Some(route) => format!("{} {route}", call.method),
        None => call.method.to_string(),
    };
    let mut attributes = Attributes::default();
    about(call, &mut attributes);
    let status = call.status.to_string();
    // What its caller did wrong is no error of a server's.
    let wrong = call.status >= 500 || call.outcome == "failed" && call.status < 400;
    let error = wrong.then(|| call.why.unwrap_or(&status));
    let made = Made::new(context, true, call.span, SpanKind::Server, name)
        .lasts(call.wall, call.at(call.ended))
        .stated(call.state.as_ref())
        .failed(error, &mut attributes);
    made.with(&attributes, to);
    let inside = Context {
        span: call.span,
        ..context
    };
    let first = call.attempts.first().map(|one| one.span);
    let told = call.told();
    for (at, one) in call.attempts.iter().enumerate() {
        let content = told.filter(|(by, _)| *by == at).map(|(_, content)| content);
        of_attempt(call, inside, one, first.filter(|_| at > 0), content, to);
    }
    if let Some((since, span)) = call.handed_over {
        let mut attributes = Attributes::default();
        attributes.maybe("shunt.job.id", call.job.as_deref());
        attributes.maybe("shunt.job.reason", call.why);
        let name = "hand-off".to_owned();
        let made = Made::new(inside, false, span, SpanKind::Producer, name)
            .lasts(call.at(since), call.at(call.ended))
            .stated(call.state.as_ref());
        made.with(&attributes, to);
    }
}

fn about(call: &Call, attributes: &mut Attributes) {
    attributes.text("http.request.method", call.method.as_str());
    attributes.text("url.path", &call.path);
    attributes.number("http.response.status_code", Some(call.status.into()));
    attributes.maybe("gen_ai.operation.name", operation(&call.path));
    attributes.maybe("gen_ai.request.model", call.model.as_deref());
    if call.streamed {
        attributes.flag("gen_ai.request.stream", true);
    }
    let first = call.first_token;
    attributes.seconds("gen_ai.server.time_to_first_token", first);
    answered(call, attributes);
    let id = call.id.as_ref().and_then(|id| id.to_str().ok());
    attributes.maybe("shunt.request.id", id);
    attributes.maybe("shunt.route", call.route.as_deref());
    attributes.maybe("shunt.key", call.key.as_deref());
    let target = call.target.as_ref();
    attributes.maybe("shunt.target", target.map(|target| &*target.label));
    attributes.text("shunt.outcome", call.outcome);
    attributes.maybe("shunt.why", call.why);
    attributes.maybe("shunt.joined", call.joined);
    attributes.maybe("shunt.job.id", call.job.as_deref());
    attributes.seconds("shunt.budget", call.budget);
    attributes.flag("shunt.over_budget", call.over);
    attributes.seconds("shunt.queue", Some(call.queued));
    attributes.seconds("shunt.own", call.own);
    attributes.number("shunt.attempts", Some(call.attempts.len() as u64));
}

fn answered(call: &Call, attributes: &mut Attributes) {
    attributes.maybe("gen_ai.response.model", call.answered_by.as_deref());
    attributes.number("gen_ai.usage.input_tokens", call.usage.prompt_tokens);
    attributes.number("gen_ai.usage.output_tokens", call.usage.completion_tokens);
}

/// Where an attempt goes, and what is asked there.
fn asked(target: &Target, operation: Option<&str>, model: Option<&str>, to: &mut Attributes) {
    let provider = &target.provider;
    to.maybe("gen_ai.operation.name", operation);
    to.text(
        "gen_ai.provider.name",
        match provider.dialect {
            Dialect::Openai => "openai",
            Dialect::Anthropic => "anthropic",
            Dialect::Plain => &provider.name,
        },
    );
    let own = target.model();
    to.maybe("gen_ai.request.model", own.as_deref().or(model));
    let (host, port) = provider.server();
    to.text("server.address", host);
    to.number("server.port", Some(port.into()));
    to.text("shunt.target", &target.label);
}

/// A span's name by the conventions: `chat gpt-4o`, else the target's.
fn named(target: &Target, operation: Option<&str>, model: Option<&str>) -> String {
    let own = target.model();
    match (operation, own.as_deref().or(model)) {
        (Some(operation), Some(model)) => format!("{operation} {model}"),
        (Some(operation), None) => operation.to_owned(),
        (None, _) => target.label.clone(),
    }
}

fn of_attempt(
    call: &Call,
    inside: Context,
    one: &Attempted,
    first: Option<u64>,
    content: Option<&Content>,
    to: &mut Spans,
) {
    let (operation, model) = (operation(&call.path), call.model.as_deref());
    let mut attributes = Attributes::default();
    asked(&one.target, operation, model, &mut attributes);
    attributes.text("http.request.method", call.method.as_str());
    let status = one.status.map(u64::from);
    attributes.number("http.response.status_code", status);
    if call.streamed {
        attributes.flag("gen_ai.request.stream", true);
        let first = one.first_content.map(|at| at - one.started);
        attributes.seconds("gen_ai.response.time_to_first_chunk", first);
    }
    if matches!(one.came, Came::Won | Came::Broke) {
        answered(call, &mut attributes);
    }
    if let Some(content) = content {
        to.tell(content, &mut attributes);
    }
    attributes.text("shunt.attempt.kind", one.kind.as_str());
    attributes.text("shunt.attempt.result", one.came.as_str());
    let cancelled = matches!(one.came, Came::Lost | Came::Cancelled);
    attributes.flag("shunt.attempt.cancelled", cancelled);
    let told = one.status.filter(|status| *status >= 400);
    let told = told.map(|status| status.to_string());
    let name = named(&one.target, operation, model);
    let mut made = Made::new(inside, false, one.span, SpanKind::Client, name)
        .lasts(call.at(one.started), call.at(one.ended))
        .stated(call.state.as_ref())
        .failed(told.as_deref().or(one.error), &mut attributes);
    if let Some(first) = first {
        made = made.links(inside.trace, first, "first_attempt");
    }
    made.with(&attributes, to);
}

fn of_run(run: &Run, to: &mut Spans) {
    let mut attributes = Attributes::default();
    attributes.text("shunt.job.id", &run.job);
    attributes.text("shunt.route", &run.route);
    attributes.number("shunt.job.attempt", Some(run.number.into()));
    attributes.text("shunt.job.result", run.result);
    attributes.number("http.response.status_code", run.status.map(u64::from));
    let error = run.error();
    let name = format!("job {}", run.route);
    let made = Made::new(run.context, true, run.span, SpanKind::Consumer, name)
        .lasts(run.began, run.ended())
        .stated(run.state.as_ref())
        .links(run.context.trace, run.context.span, "call")
        .failed(error, &mut attributes);
    made.with(&attributes, to);
    let inside = Context {
        span: run.span,
        ..run.context
    };
    let told = run.told();
    for (at, (target, span)) in run.attempts.iter().enumerate() {
        let decided = run.by.is_none_or(|by| by == at);
        let (operation, model) = (operation(&run.path), run.model.as_deref());
        let mut attributes = Attributes::default();
        asked(target, operation, model, &mut attributes);
        let status = run.status.filter(|_| decided).map(u64::from);
        attributes.number("http.response.status_code", status);
        attributes.text("shunt.attempt.kind", "job");
        let result = if decided { run.result } else { "superseded" };
        attributes.text("shunt.attempt.result", result);
        attributes.flag("shunt.attempt.cancelled", !decided);
        if let Some((by, content)) = told
            && by == at
        {
            to.tell(content, &mut attributes);
        }
        let name = named(target, operation, model);
        let made = Made::new(inside, false, *span, SpanKind::Client, name)
            .lasts(run.began, run.ended())
            .stated(run.state.as_ref())
            .failed(error.filter(|_| decided), &mut attributes);
        made.with(&attributes, to);
    }
}

fn of_delivery(one: &Delivery, to: &mut Spans) {
    let mut attributes = Attributes::default();
    attributes.text("http.request.method", "POST");
    attributes.text("server.address", &one.host);
    attributes.number("server.port", Some(one.port.into()));
    attributes.number("http.response.status_code", one.status.map(u64::from));
    attributes.text("shunt.job.id", &one.job);
    attributes.text("shunt.route", &one.route);
    attributes.number("shunt.callback.delivery", Some(one.number.into()));
    let told = one.status.filter(|status| !(200..300).contains(status));
    let told = told.map(|status| status.to_string());
    let name = "callback".to_owned();
    let mut made = Made::new(one.context, true, one.span, SpanKind::Client, name)
        .lasts(one.began, one.began + one.took)
        .failed(told.as_deref().or(one.error), &mut attributes);
    if one.context.span != 0 {
        made = made.links(one.context.trace, one.context.span, "call");
    }
    made.with(&attributes, to);
}
