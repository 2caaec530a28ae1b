//! Where a call's credentials stand.

use http::HeaderName;
use http::header::AUTHORIZATION;

/// What SDKs of OpenAI, Anthropic, Azure and Google send, in the order in which they are looked at.
pub static CREDENTIALS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];
