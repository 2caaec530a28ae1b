//! Events that carry content and nothing else, known by a few words: nearly all of a stream.
//!
//! Promises: what is known here is what parsing would tell, where names are not escaped (no API does);
//! all else, and all that is written in another way, is left to parsing. Parsing an event takes 0.7 µs,
//! and a stream has one for each token.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::config::Dialect;

/// What stands right before an event's text in the APIs' compact JSON, and with what such an event
/// begins.
const OPENAI: &[(&str, &str)] = &[
    ("", r#""choices":[{"index":0,"delta":{"content":""#),
    (r#"{"type":"response.output_text.delta","#, r#","delta":""#),
];
const ANTHROPIC: &[(&str, &str)] = &[
    (BLOCK, r#","delta":{"type":"text_delta","text":""#),
    (BLOCK, r#","delta":{"type":"thinking_delta","thinking":""#),
    (
        BLOCK,
        r#","delta":{"type":"input_json_delta","partial_json":""#,
    ),
];
const BLOCK: &str = r#"{"type":"content_block_delta","#;

/// A kind of event.
struct Form {
    begins: &'static [u8],
    text: Finder<'static>,
}

/// The kinds of both APIs, and the names of what may stand beside content and is to be read.
struct Words {
    openai: Vec<Form>,
    anthropic: Vec<Form>,
    usage: Finder<'static>,
    error: Finder<'static>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let forms = |all: &[(&'static str, &'static str)]| {
        let form = |(begins, text): &(&'static str, &'static str)| Form {
            begins: begins.as_bytes(),
            text: Finder::new(*text),
        };
        all.iter().map(form).collect()
    };
    Words {
        openai: forms(OPENAI),
        anthropic: forms(ANTHROPIC),
        usage: Finder::new(r#""usage""#),
        error: Finder::new(r#""error""#),
    }
});

/// Whether an event carries content, and tells neither of tokens nor of an error. `false`: it is to be
/// parsed.
pub fn is_content(dialect: Dialect, payload: &[u8]) -> bool {
    let words = &*WORDS;
    let forms = match dialect {
        Dialect::Openai => &words.openai,
        Dialect::Anthropic => &words.anthropic,
        Dialect::Plain => return false,
    };
    forms.iter().any(|form| form.is_of(payload)) && !words.tells_more(payload)
}

impl Form {
    /// Whether a payload is of it, with a text that is not empty.
    fn is_of(&self, payload: &[u8]) -> bool {
        payload.starts_with(self.begins)
            && self.text.find(payload).is_some_and(|at| {
                let text = payload.get(at + self.text.needle().len());
                text.is_some_and(|first| *first != b'"')
            })
    }
}

impl Words {
    fn tells_more(&self, payload: &[u8]) -> bool {
        let usage = self.usage.find_iter(payload).any(|at| {
            let value = &payload[at + self.usage.needle().len()..];
            !value.starts_with(b":null")
        });
        usage || self.error.find(payload).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Usage, parsed};
    use super::*;

    /// A member that may stand in an event where it is not expected, with a comma before it.
    fn member() -> impl Strategy<Value = String> {
        let names = [
            "usage", "error", "message", "delta", "choices", "type", "response",
        ];
        let values = [
            "null",
            "7",
            r#""text""#,
            r#"{"prompt_tokens":7,"output_tokens":3}"#,
            r#"{"usage":{"input_tokens":7}}"#,
            r#"[{"index":0,"delta":{"content":"x"}}]"#,
        ];
        let some = (
            prop::sample::select(names.to_vec()),
            prop::sample::select(values.to_vec()),
        );
        let some = some.prop_map(|(name, value)| format!(r#","{name}":{value}"#));
        prop_oneof![3 => Just(String::new()), 2 => some]
    }

    /// Events as the APIs write them, and what else there may be.
    fn event() -> impl Strategy<Value = (Dialect, String)> {
        let text = "[ -~\n\"\\\\é😀]{0,12}".prop_map(|text| format!("{text:?}"));
        let kinds = prop::sample::select(&["text_delta", "thinking_delta", "input_json_delta"]);
        let names = prop::sample::select(&["text", "thinking", "partial_json"]);
        (0..3, text, kinds, names, [member(), member(), member()]).prop_map(
            |(form, text, kind, name, [a, b, c])| match form {
                0 => {
                    let choice = format!(r#"{{"index":0,"delta":{{"content":{text}{a}}}{b}}}"#);
                    (
                        Dialect::Openai,
                        format!(r#"{{"id":"x"{c},"choices":[{choice}]}}"#),
                    )
                }
                1 => {
                    let head = r#"{"type":"response.output_text.delta","item_id":"m""#;
                    (Dialect::Openai, format!(r#"{head}{a},"delta":{text}{b}}}"#))
                }
                _ => {
                    let head = r#"{"type":"content_block_delta","index":0"#;
                    let delta = format!(r#"{{"type":"{kind}","{name}":{text}{a}}}"#);
                    (
                        Dialect::Anthropic,
                        format!(r#"{head}{b},"delta":{delta}{c}}}"#),
                    )
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_known_at_once_is_what_parsing_tells((dialect, event) in event()) {
            if is_content(dialect, event.as_bytes()) {
                let told = parsed(dialect, event.as_bytes());
                prop_assert!(told.content && !told.error, "{}", event);
                prop_assert_eq!(told.usage, Usage::default(), "{}", event);
            }
        }
    }

    #[test]
    fn what_the_apis_send_for_each_token_is_known_at_once() {
        for payload in [
            r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#,
            r#"{"id":"c","choices":[{"index":0,"delta":{"content":"\""}}],"usage":null}"#,
            r#"{"type":"response.output_text.delta","item_id":"m","delta":"Hi","sequence_number":7}"#,
        ] {
            assert!(is_content(Dialect::Openai, payload.as_bytes()), "{payload}");
        }
        for payload in [
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"H"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
        ] {
            assert!(
                is_content(Dialect::Anthropic, payload.as_bytes()),
                "{payload}"
            );
        }
        for payload in [
            r#"{"choices":[{"index":0,"delta":{"content":""}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":null,"response":{"usage":{"output_tokens":1}}}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"x"}}],"error":{"code":1}}"#,
        ] {
            assert!(
                !is_content(Dialect::Openai, payload.as_bytes()),
                "{payload}"
            );
        }
    }
}
