//! What `Content-Type` and `Content-Encoding` say of a body.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// JSON in any of its types; `None` where there is no type.
pub fn is_json(headers: &HeaderMap) -> Option<bool> {
    headers.get(CONTENT_TYPE).map(says_json)
}

/// The same of the type itself: `application/json`, or what ends so (RFC 6839 3.1). Lines of JSON, as
/// `application/x-ndjson`, are a stream.
pub fn says_json(kind: &HeaderValue) -> bool {
    let kind = kind.as_bytes();
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii();
    let is = |end: &[u8]| {
        let last = essence.len().checked_sub(end.len());
        last.is_some_and(|at| essence[at..].eq_ignore_ascii_case(end))
    };
    is(b"/json") || is(b"/x-json") || is(b"+json") && !is(b"/stream+json")
}

/// Whether a body begins as a JSON object does, or nothing says yet that it does not. Some servers read
/// one whatever it is called, and pass over a byte order mark.
pub fn begins_as_json(body: &[u8]) -> bool {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let body = body.strip_prefix(MARK).unwrap_or(body).trim_ascii_start();
    MARK.starts_with(body) || body.first() == Some(&b'{')
}

/// Whether its bytes stand for others, as where it is compressed.
pub fn is_encoded(headers: &HeaderMap) -> bool {
    let plain = |line: &HeaderValue| line.as_bytes().eq_ignore_ascii_case(b"identity");
    let lines = headers.get_all(CONTENT_ENCODING);
    lines.iter().any(|line| !plain(line))
}

/// A stream of server-sent events.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(says_events)
}

/// The same of the type itself.
pub fn says_events(kind: &HeaderValue) -> bool {
    kind.as_bytes().starts_with(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_may_be_an_object_begins_as_one() {
        for body in ["", " ", "{", "\r\n\t {}", "\u{feff}{", "\u{feff}"] {
            assert!(begins_as_json(body.as_bytes()), "{body:?}");
        }
        assert!(begins_as_json(b"\xef\xbb"));
        for body in ["v=0", "--boundary", "\r\n--boundary", "[1]", "model={"] {
            assert!(!begins_as_json(body.as_bytes()), "{body:?}");
        }
    }

    #[test]
    fn json_is_one_value_and_lines_of_it_are_a_stream() {
        for (kind, is) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON ;charset=utf-8", true),
            ("application/problem+json", true),
            ("application/vnd.api+json; a=b", true),
            ("text/json", true),
            ("application/x-ndjson", false),
            ("application/jsonl", false),
            ("application/json-seq", false),
            ("application/stream+json", false),
            ("text/event-stream", false),
            ("multipart/form-data; boundary=json", false),
            ("", false),
        ] {
            assert_eq!(says_json(&HeaderValue::from_static(kind)), is, "{kind}");
        }
    }
}
