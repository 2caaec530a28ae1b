//! Errors as each API words them.

use serde_json::{Value, json};

use super::answers::Api;

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The request cannot be understood.
    Request,
    /// Its key is not known.
    Key,
    /// There is no such path.
    Path,
    /// There is no such model.
    Model,
    /// It goes on from a response that is not known.
    Previous,
    /// It is over its rate.
    Rate,
    /// There are too many calls of all.
    Overload,
    /// Anything else.
    Server,
}

impl Why {
    /// That of a status that is only simulated.
    pub const fn of(status: u16) -> Self {
        match status {
            401 => Self::Key,
            429 => Self::Rate,
            529 => Self::Overload,
            400..500 => Self::Request,
            _ => Self::Server,
        }
    }

    /// Anthropic's type.
    const fn kind(self) -> &'static str {
        match self {
            Self::Request | Self::Previous => "invalid_request_error",
            Self::Key => "authentication_error",
            Self::Path | Self::Model => "not_found_error",
            Self::Rate => "rate_limit_error",
            Self::Overload => "overloaded_error",
            Self::Server => "api_error",
        }
    }

    /// OpenAI's type, code and parameter.
    const fn words(self) -> (&'static str, Option<&'static str>, Option<&'static str>) {
        let request = "invalid_request_error";
        match self {
            Self::Request | Self::Path => (request, None, None),
            Self::Key => (request, Some("invalid_api_key"), None),
            Self::Model => (request, Some("model_not_found"), Some("model")),
            Self::Previous => (
                request,
                Some("previous_response_not_found"),
                Some("previous_response_id"),
            ),
            Self::Rate => ("requests", Some("rate_limit_exceeded"), None),
            Self::Overload | Self::Server => ("server_error", None, None),
        }
    }
}

/// An error in an API's shape.
pub fn error(api: Option<Api>, why: Why, message: &str) -> Value {
    if api == Some(Api::Message) {
        return json!({"type": "error", "error": {"type": why.kind(), "message": message}});
    }
    let (kind, code, parameter) = why.words();
    json!({"error": {"message": message, "type": kind, "code": code, "param": parameter}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_has_its_own_words_for_an_error() {
        let openai = error(Some(Api::Chat), Why::Key, "no");
        let says = json!({"error": {"message": "no", "type": "invalid_request_error",
            "code": "invalid_api_key", "param": null}});
        assert_eq!(openai, says);
        let anthropic = error(Some(Api::Message), Why::Key, "no");
        let says =
            json!({"type": "error", "error": {"type": "authentication_error", "message": "no"}});
        assert_eq!(anthropic, says);
    }
}
