//! What a `Content-Type` says of a body.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// JSON in any of its types; `None` where there is no type.
pub fn is_json(headers: &HeaderMap) -> Option<bool> {
    let kind = headers.get(CONTENT_TYPE)?.as_bytes();
    Some(kind.starts_with(b"application/json") || memchr::memmem::find(kind, b"json").is_some())
}

/// A stream of server-sent events.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}
