//! Errors as RFC 9457 `application/problem+json`, for pages that speak no provider's dialect.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error: its stable word, and a sentence. A 503 says when to come back.
pub fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = json!({"type": "about:blank", "title": status.canonical_reason(),
        "status": status.as_u16(), "code": code, "detail": detail});
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    let mut response = (status, kind, body.to_string()).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let later = HeaderValue::from_static("5");
        response.headers_mut().insert(RETRY_AFTER, later);
    }
    response
}
