//! Errors as RFC 9457 `application/problem+json`, for pages that speak no provider's dialect.

use axum::extract::{FromRequestParts, Path};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
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

/// The name in a page's path.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name)).map_err(|_| {
            let why = "the name in the path cannot be read; send UTF-8, percent-encoded";
            problem(StatusCode::BAD_REQUEST, "bad_request", why)
        })
    }
}

/// Said where a page is asked with a method that it does not take.
pub async fn wrong_method() -> Response {
    let why = "the page does not take this method; send one of those that the header Allow names";
    problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why)
}
