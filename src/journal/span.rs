//! A span of OpenTelemetry's, put together.

use std::time::SystemTime;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::context::Context;

/// Flags of a span: whether its parent is of another process is known, and is so.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Attributes.
#[derive(Default)]
pub struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn add(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }

    /// A text.
    pub fn text(&mut self, key: &str, text: &str) {
        self.add(key, Value::StringValue(text.to_owned()));
    }

    /// A text, where there is one.
    pub fn maybe(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// A number, where there is one.
    pub fn number(&mut self, key: &str, number: Option<u64>) {
        if let Some(number) = number {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.add(key, Value::IntValue(number));
        }
    }

    /// Seconds, where they are known.
    pub fn seconds(&mut self, key: &str, time: Option<std::time::Duration>) {
        if let Some(time) = time {
            self.add(key, Value::DoubleValue(time.as_secs_f64()));
        }
    }

    /// A fact.
    pub fn flag(&mut self, key: &str, is: bool) {
        self.add(key, Value::BoolValue(is));
    }

    /// As OpenTelemetry has them.
    pub fn into_inner(self) -> Vec<KeyValue> {
        self.0
    }
}

/// A span that is put together.
pub struct Made(Span);

fn nanos(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn id(span: u64) -> Vec<u8> {
    if span == 0 {
        return Vec::new();
    }
    span.to_be_bytes().to_vec()
}

impl Made {
    /// A span of `context`'s trace, within `context`'s span; `remote`: that is another process's.
    pub fn new(context: Context, remote: bool, span: u64, kind: SpanKind, name: String) -> Self {
        let remote = if remote { REMOTE } else { 0 };
        Self(Span {
            trace_id: context.trace.to_be_bytes().to_vec(),
            span_id: id(span),
            parent_span_id: id(context.span),
            flags: u32::from(context.flags) | KNOWN | remote,
            name,
            kind: kind.into(),
            ..Span::default()
        })
    }

    /// Since when and until when.
    pub fn lasts(mut self, from: SystemTime, to: SystemTime) -> Self {
        self.0.start_time_unix_nano = nanos(from);
        self.0.end_time_unix_nano = nanos(to).max(nanos(from));
        self
    }

    /// What a vendor wrote beside its trace.
    pub fn stated(mut self, state: Option<&http::HeaderValue>) -> Self {
        let state = state.and_then(|state| state.to_str().ok());
        self.0.trace_state = state.map(str::to_owned).unwrap_or_default();
        self
    }

    /// It belongs to another span, too; `why`: how.
    pub fn links(mut self, trace: u128, span: u64, why: &str) -> Self {
        let mut attributes = Attributes::default();
        attributes.text("shunt.link", why);
        self.0.links.push(Link {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: id(span),
            attributes: attributes.into_inner(),
            ..Link::default()
        });
        self
    }

    /// It failed, with this word.
    pub fn failed(mut self, error: Option<&str>, attributes: &mut Attributes) -> Self {
        if let Some(error) = error {
            attributes.text("error.type", error);
            self.0.status = Some(Status {
                code: StatusCode::Error.into(),
                ..Status::default()
            });
        }
        self
    }

    /// The span.
    pub fn with(mut self, attributes: Attributes) -> Span {
        self.0.attributes = attributes.into_inner();
        self.0
    }
}
