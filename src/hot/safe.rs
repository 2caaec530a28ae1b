//! Which calls may be sent twice.
//!
//! A completion, an embedding or a message that nobody stores costs tokens when it is sent twice
//! and changes nothing else; a stored or background response, a batch or a file is there twice.

use http::Method;

use crate::config::{Dialect, Safe};
use crate::upstream::peek::Peek;

/// Whether a call may be sent twice.
pub fn is_safe(rule: Safe, dialect: Dialect, method: &Method, path: &str, peek: &Peek) -> bool {
    match rule {
        Safe::Always => true,
        Safe::Never => false,
        Safe::Auto if method == Method::GET || method == Method::HEAD => true,
        Safe::Auto if method != Method::POST => false,
        Safe::Auto => match dialect {
            Dialect::Openai => openai(path, peek),
            Dialect::Anthropic => path.ends_with("/v1/messages"),
            Dialect::Plain => false,
        },
    }
}

fn openai(path: &str, peek: &Peek) -> bool {
    let stored = peek.store == Some(true) || peek.background;
    if path.ends_with("/responses") {
        // A response is stored unless the caller says otherwise.
        return peek.store == Some(false) && !stored;
    }
    let known = [
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/moderations",
    ];
    known.iter().any(|end| path.ends_with(end)) && !stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe(dialect: Dialect, path: &str, body: &str) -> bool {
        let peek = Peek::read(body.as_bytes()).unwrap();
        is_safe(Safe::Auto, dialect, &Method::POST, path, &peek)
    }

    #[test]
    fn what_nobody_stores_may_be_sent_twice() {
        assert!(safe(Dialect::Openai, "/v1/chat/completions", "{}"));
        assert!(safe(Dialect::Openai, "/v1/embeddings", "{}"));
        assert!(safe(Dialect::Openai, "/v1/responses", r#"{"store":false}"#));
        assert!(safe(Dialect::Anthropic, "/v1/messages", "{}"));
    }

    #[test]
    fn what_is_stored_must_not() {
        let stored = r#"{"store":true}"#;
        assert!(!safe(Dialect::Openai, "/v1/chat/completions", stored));
        assert!(!safe(Dialect::Openai, "/v1/responses", "{}"));
        let background = r#"{"store":false,"background":true}"#;
        assert!(!safe(Dialect::Openai, "/v1/responses", background));
        assert!(!safe(Dialect::Openai, "/v1/batches", "{}"));
        assert!(!safe(Dialect::Openai, "/v1/files", "{}"));
        assert!(!safe(Dialect::Anthropic, "/v1/messages/batches", "{}"));
        assert!(!safe(Dialect::Plain, "/anything", "{}"));
    }
}
