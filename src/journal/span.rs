//! A span of OpenTelemetry's, put together.
//!
//! Promises: encoded as the messages of `opentelemetry-proto` are. Attributes are written as protobuf
//! at once: as values they are fifty allocations a call, which cost more than all else of its spans.

use std::time::{Duration, SystemTime};

use bytes::BufMut;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::content::Content;
use super::context::Context;
use super::sheets::Sheet;

/// Flags of a span: whether its parent is of another process is known, and is so.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Fields of OTLP 1.x: `ScopeSpans.spans`, `Span.attributes`, those of `KeyValue`, and of `AnyValue`.
const SPANS: u8 = 2;
const ATTRIBUTES: u8 = 9;
const KEY: u8 = 1;
const VALUE: u8 = 2;
const TEXT: u8 = 1;
const FLAG: u32 = 2;
const NUMBER: u32 = 3;
const FRACTION: u32 = 4;

/// A text attribute as a value.
pub fn attribute(key: &str, text: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(text.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// Bytes of a field that holds so many.
pub fn field(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

/// Begins a field of so many bytes. All numbers of fields here are below 16: one byte.
pub fn begin(tag: u8, bytes: usize, to: &mut impl BufMut) {
    let key = tag << 3 | WireType::LengthDelimited as u8;
    // Most are that short.
    if let Ok(bytes @ ..0x80) = u8::try_from(bytes) {
        to.put_slice(&[key, bytes]);
    } else {
        to.put_u8(key);
        encode_varint(bytes as u64, to);
    }
}

/// Attributes of a span, encoded.
pub struct Attributes(Vec<u8>);

/// Bytes that those of most spans take at most.
const USUAL: usize = 1 << 10;

impl Default for Attributes {
    fn default() -> Self {
        Self(Vec::with_capacity(USUAL))
    }
}

impl Attributes {
    /// Writes an attribute whose value takes so many bytes.
    fn add(&mut self, key: &str, bytes: usize, value: impl FnOnce(&mut Vec<u8>)) {
        let to = &mut self.0;
        begin(ATTRIBUTES, field(key.len()) + field(bytes), to);
        begin(KEY, key.len(), to);
        to.extend_from_slice(key.as_bytes());
        begin(VALUE, bytes, to);
        value(to);
    }

    /// A text.
    pub fn text(&mut self, key: &str, text: &str) {
        self.add(key, field(text.len()), |to| {
            begin(TEXT, text.len(), to);
            to.extend_from_slice(text.as_bytes());
        });
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
            let number = number.min(i64::MAX as u64);
            self.add(key, 1 + encoded_len_varint(number), |to| {
                encode_key(NUMBER, WireType::Varint, to);
                encode_varint(number, to);
            });
        }
    }

    /// Seconds, where they are known.
    pub fn seconds(&mut self, key: &str, time: Option<Duration>) {
        if let Some(time) = time {
            self.add(key, 1 + size_of::<f64>(), |to| {
                encode_key(FRACTION, WireType::SixtyFourBit, to);
                to.extend_from_slice(&time.as_secs_f64().to_le_bytes());
            });
        }
    }

    /// A fact.
    pub fn flag(&mut self, key: &str, is: bool) {
        self.add(key, 2, |to| {
            encode_key(FLAG, WireType::Varint, to);
            to.push(is.into());
        });
    }
}

/// Spans, encoded one after the other as fields of a `ScopeSpans`.
#[derive(Default)]
pub struct Spans {
    /// Their bytes.
    pub encoded: Vec<u8>,
    /// How many they are.
    pub count: usize,
    /// Bytes of prompts and answers that were read for them.
    pub read: usize,
}

impl Spans {
    /// None yet, to be encoded behind others.
    pub fn behind(others: Vec<u8>) -> Self {
        Self {
            encoded: others,
            ..Self::default()
        }
    }

    /// Takes over spans that are encoded already.
    pub fn add(&mut self, sheet: &Sheet) {
        self.encoded.extend_from_slice(&sheet.text);
        self.count += sheet.count;
    }

    /// None are left; their room is kept.
    pub fn clear(&mut self) {
        self.encoded.clear();
        (self.count, self.read) = (0, 0);
    }

    /// Tells a prompt and its answer.
    pub fn tell(&mut self, content: &Content, to: &mut Attributes) {
        self.read += content.bytes();
        content.tell(to);
    }

    fn push(&mut self, span: &Span, attributes: &Attributes) {
        let bytes = span.encoded_len() + attributes.0.len();
        begin(SPANS, bytes, &mut self.encoded);
        span.encode_raw(&mut self.encoded);
        self.encoded.extend_from_slice(&attributes.0);
        self.count += 1;
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
        self.0.links.push(Link {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: id(span),
            attributes: vec![attribute("shunt.link", why)],
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

    /// Leaves it with the others.
    pub fn with(self, attributes: &Attributes, to: &mut Spans) {
        to.push(&self.0, attributes);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
    use proptest::prelude::*;

    use super::*;

    fn value(key: &str, value: Value) -> KeyValue {
        let value = Some(AnyValue { value: Some(value) });
        KeyValue {
            value,
            ..attribute(key, "")
        }
    }

    proptest! {
        #[test]
        fn spans_are_read_as_they_were_meant(
            key in "[a-z._]{0,200}",
            text in ".{0,400}",
            number in any::<u64>(),
            nanos in any::<u64>(),
            is: bool,
        ) {
            let time = Duration::from_nanos(nanos);
            let mut attributes = Attributes::default();
            attributes.text(&key, &text);
            attributes.maybe("absent", None);
            attributes.number(&key, Some(number));
            attributes.seconds(&key, Some(time));
            attributes.flag(&key, is);
            let mut spans = Spans::default();
            for _ in 0..2 {
                let kind = SpanKind::Client;
                let made = Made::new(Context::begin(), true, 7, kind, text.clone());
                made.links(1, 2, "call").with(&attributes, &mut spans);
            }
            let read = ScopeSpans::decode(&*spans.encoded).expect("it is protobuf");
            prop_assert_eq!((read.spans.len(), spans.count), (2, 2));
            let whole = i64::try_from(number).unwrap_or(i64::MAX);
            let meant = [
                attribute(&key, &text),
                value(&key, Value::IntValue(whole)),
                value(&key, Value::DoubleValue(time.as_secs_f64())),
                value(&key, Value::BoolValue(is)),
            ];
            for span in &read.spans {
                prop_assert_eq!(&span.attributes[..], &meant[..]);
                prop_assert_eq!(&span.name, &text);
                prop_assert_eq!(&span.links[0].attributes[..], &[attribute("shunt.link", "call")][..]);
            }
        }
    }
}
