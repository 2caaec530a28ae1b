//! What `Content-Type` and `Content-Encoding` say of a body.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// JSON in any of its types; `None` where there is no type.
pub fn is_json(headers: &HeaderMap) -> Option<bool> {
    headers.get(CONTENT_TYPE).map(says_json)
}

/// The same of the type itself.
pub fn says_json(kind: &HeaderValue) -> bool {
    let kind = kind.as_bytes();
    kind.starts_with(b"application/json") || memchr::memmem::find(kind, b"json").is_some()
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
