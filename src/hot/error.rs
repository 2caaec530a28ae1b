//! Errors that the gateway makes itself, in the shape that the caller's SDK knows.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::config::Dialect;

/// What went wrong; section 5 of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Past its deadline.
    BudgetExceeded,
    /// No route takes it.
    NoRoute,
    /// It cannot be understood.
    BadRequest,
    /// Larger than may be kept, or than may be sent at all.
    BodyTooLarge,
    /// Its body came too slowly.
    BodyTooSlow,
    /// Its body is compressed where the gateway has to read it.
    Encoded,
    /// Its body is JSON by another name where the gateway has to read it.
    NotJson,
    /// It has too many header lines.
    HeadTooLarge,
    /// No room.
    Overloaded,
    /// No room at the provider, for about so many seconds.
    Shed(u8),
    /// No connection, or it broke.
    ProviderUnreachable,
    /// The same, and the gateway leaves the provider alone for about so many seconds.
    Away(u8),
    /// Its key stands for another call.
    IdempotencyMismatch,
    /// Its scope was cancelled.
    ScopeCancelled,
    /// It carries no key of the gateway's, or one that is not valid.
    Unauthorized,
    /// Its key may not call this.
    Forbidden,
    /// Its key is over its limits for about so many seconds.
    RateLimited(u8),
}

impl Code {
    /// Its stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BudgetExceeded => "budget_exceeded",
            Self::NoRoute => "no_route",
            Self::BadRequest => "bad_request",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::Encoded => "encoded_body",
            Self::NotJson => "not_json",
            Self::HeadTooLarge => "head_too_large",
            Self::Overloaded | Self::Shed(_) => "overloaded",
            Self::ProviderUnreachable | Self::Away(_) => "provider_unreachable",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::ScopeCancelled => "scope_cancelled",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited(_) => "rate_limited",
        }
    }

    /// Its status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BudgetExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Encoded | Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Overloaded | Self::Shed(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::ProviderUnreachable | Self::Away(_) => StatusCode::BAD_GATEWAY,
            Self::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
            Self::ScopeCancelled => StatusCode::CONFLICT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The `type` under which an API files it.
    fn kind(self, dialect: Dialect) -> &'static str {
        let caller = self.status().is_client_error();
        match (dialect, self) {
            (Dialect::Anthropic, Self::NoRoute) => "not_found_error",
            (Dialect::Anthropic, Self::BodyTooLarge) => "request_too_large",
            (Dialect::Anthropic, Self::Overloaded | Self::Shed(_)) => "overloaded_error",
            (Dialect::Anthropic, Self::BudgetExceeded) => "timeout_error",
            (Dialect::Anthropic, Self::Unauthorized) => "authentication_error",
            (Dialect::Anthropic, Self::Forbidden) => "permission_error",
            (_, Self::RateLimited(_)) => "rate_limit_error",
            (_, _) if caller => "invalid_request_error",
            (Dialect::Anthropic, _) => "api_error",
            (_, _) => "server_error",
        }
    }
}

/// Seconds after which there may be room again, where nothing tells better.
const ROOM: u8 = 5;

/// The answer.
pub fn response(dialect: Dialect, code: Code, message: &str) -> Response<Bytes> {
    let (content_type, body) = match dialect {
        Dialect::Openai => (
            "application/json",
            json!({"error": {"message": message, "type": code.kind(dialect),
                "code": code.as_str(), "param": null}}),
        ),
        Dialect::Anthropic => (
            "application/json",
            json!({"type": "error",
                "error": {"type": code.kind(dialect), "message": message, "code": code.as_str()}}),
        ),
        Dialect::Plain => (
            "application/problem+json",
            json!({"type": "about:blank", "title": code.status().canonical_reason(),
                "status": code.status().as_u16(), "code": code.as_str(), "detail": message}),
        ),
    };
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let wait = match code {
        Code::Overloaded => Some(ROOM),
        Code::Shed(seconds) | Code::Away(seconds) | Code::RateLimited(seconds) => Some(seconds),
        _ => None,
    };
    if let Some(seconds) = wait {
        headers.insert(RETRY_AFTER, u16::from(seconds).into());
    }
    if code == Code::Unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if code == Code::Encoded {
        // RFC 9110 15.5.16: what would be taken.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if matches!(code, Code::BudgetExceeded | Code::ScopeCancelled) {
        // A call that was too slow is not to be tripled by the SDK's own retries, and one that was
        // cancelled is not to be sent again.
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    response
}

/// The dialect that a path suggests, where no route tells.
pub fn guess(path: &str) -> Dialect {
    if path.contains("/v1/messages") {
        Dialect::Anthropic
    } else if path.contains("/v1/") {
        Dialect::Openai
    } else {
        Dialect::Plain
    }
}
