//! The tokens that an answer tells which is no stream.
//!
//! Promises: looks only at the object that is named so, and builds nothing.

use std::sync::LazyLock;

use memchr::memmem::FinderRev;

use super::dialect::Usage;
use super::scan::{Wrong, find, leading_members};

/// The tokens told in the last bytes of an answer that was not streamed.
pub fn usage_in(tail: &[u8]) -> Usage {
    static USAGE: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new("\"usage\""));
    let Some(at) = USAGE.rfind(tail) else {
        return Usage::default();
    };
    let rest = tail[at + b"\"usage\"".len()..].trim_ascii_start();
    let Some(value) = rest.strip_prefix(b":") else {
        return Usage::default();
    };
    counts(value).unwrap_or_default()
}

/// The tokens that the object tells with which a text begins. A count that is none, or stands there
/// twice: it tells nothing.
fn counts(text: &[u8]) -> Option<Usage> {
    const NAMES: [&str; 4] = [
        "prompt_tokens",
        "input_tokens",
        "completion_tokens",
        "output_tokens",
    ];
    let mut told: [Option<Option<u64>>; 2] = [None; 2];
    let wrong = || Wrong::Field(String::new());
    let read = leading_members(text, |member| {
        let Some(name) = find(&text[member.name], &NAMES) else {
            return Ok(());
        };
        let count = match &text[member.value] {
            b"null" => None,
            digits => Some(
                std::str::from_utf8(digits)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(wrong)?,
            ),
        };
        match told[name / 2].replace(count) {
            None => Ok(()),
            Some(_) => Err(wrong()),
        }
    });
    let [prompt, completion] = told.map(Option::flatten);
    read.is_ok().then_some(Usage {
        prompt_tokens: prompt,
        completion_tokens: completion,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::scan::text_of;

    #[test]
    fn it_tells_what_serde_tells() {
        for value in [
            r#"{"prompt_tokens":7,"completion_tokens":8}"#,
            r#"{ "input_tokens" : 7 , "x":{"output_tokens":1}, "output_tokens":0 } ]"#,
            r#"{"prompt_tokens":null,"completion_tokens":8,"a":[1,"}"],"b":true}"#,
            r#"{"prompt_tok\u0065ns":7}"#,
            r#"{"prompt_tokens":7,"input_tokens":7}"#,
            r#"{"prompt_tokens":"7"}"#,
            r#"{"prompt_tokens":7.5}"#,
            r#"{"prompt_tokens":1e3}"#,
            r#"{"prompt_tokens":-1}"#,
            r#"{"prompt_tokens":+1}"#,
            r#"{"prompt_tokens":007}"#,
            r#"{"prompt_tokens":18446744073709551616}"#,
            r#"{"prompt_tokens":7"#,
            "{}",
            "null",
            "7",
            "",
        ] {
            let mut oracle = serde_json::Deserializer::from_str(value).into_iter::<Usage>();
            let oracle = oracle.next().and_then(Result::ok).unwrap_or_default();
            let tail = format!("..\"usage\": {value}");
            assert_eq!(usage_in(tail.as_bytes()), oracle, "{value}");
        }
    }

    #[test]
    fn a_string_is_read_as_serde_reads_it() {
        for value in [
            "\"gpt-4o\"",
            "\"\"",
            "\"é\"",
            r#""\u00e9\n""#,
            r#""a\"b""#,
            "\"a\nb\"",
            "\"",
            "7",
            "",
        ] {
            let oracle = serde_json::from_str::<String>(value).ok();
            assert_eq!(text_of(value.as_bytes()), oracle, "{value}");
        }
        assert_eq!(text_of(b"\"\xff\""), None);
    }
}
