//! What a call needs of its JSON body, read by a scan that builds no tree.

use std::ops::Range;

use super::scan::{Wrong, find, members, text_of};
use crate::config::Dialect;
use crate::latency::Kind;

/// The few fields that decide about a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// `model`.
    pub model: Option<String>,
    /// Where the value of `model` stands in the body, quotes included.
    pub model_at: Option<Range<usize>>,
    /// `stream`.
    pub stream: bool,
    /// `store`; `None` where the body does not say.
    pub store: Option<bool>,
    /// `background`.
    pub background: bool,
    /// Where the value of `previous_response_id` stands, if it is a string.
    pub earlier_at: Option<Range<usize>>,
    /// The least of `max_tokens`, `max_completion_tokens` and `max_output_tokens`, where one is a
    /// number: anything else is the provider's to refuse.
    pub most_tokens: Option<u64>,
}

impl Peek {
    /// Reads a body.
    ///
    /// # Errors
    /// A sentence: it is not a JSON object, or a field has the wrong type or stands there twice.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let mut peek = Self::default();
        let mut found = [false; FIELDS.len()];
        members(body, |member| {
            let name = &body[member.name];
            let Some(field) = find(name, &FIELDS) else {
                if find(name, &LENGTHS).is_some() {
                    peek.bound(&body[member.value]);
                }
                return Ok(());
            };
            if std::mem::replace(&mut found[field], true) {
                return Err(Wrong::Field(format!(
                    "`{}` stands in the body twice; send it once",
                    FIELDS[field]
                )));
            }
            peek.take(field, body, member.value).map_err(Wrong::Field)
        })
        .map_err(|wrong| match wrong {
            Wrong::Field(why) => why,
            Wrong::Json(why) => format!("the body is not JSON: {why}; send a JSON object"),
        })?;
        Ok(peek)
    }

    /// What a call with this body is like; of calls in no dialect of models only the length tells.
    pub fn kind(&self, dialect: Dialect, bytes: usize) -> Kind {
        if dialect == Dialect::Plain {
            return Kind::new(self.stream, None, None, bytes);
        }
        Kind::new(self.stream, self.model.as_deref(), self.most_tokens, bytes)
    }

    /// Takes the value of one of the `LENGTHS`.
    fn bound(&mut self, value: &[u8]) {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let Some(number) = text.parse::<f64>().ok().filter(|number| *number >= 1.0) else {
            return;
        };
        // JSON knows no integers: 1e3 is one too. What is larger than 2^64 is as good as that.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let number = number as u64;
        self.most_tokens = Some(self.most_tokens.unwrap_or(number).min(number));
    }

    /// Takes the value of one of the `FIELDS`.
    fn take(&mut self, field: usize, body: &[u8], at: Range<usize>) -> Result<(), String> {
        let name = FIELDS[field];
        let value = &body[at.clone()];
        if value == b"null" {
            return Ok(());
        }
        if name == "model" {
            let model = text_of(value).ok_or_else(|| {
                format!(
                    "`model` has the wrong type: it is {}; send a string",
                    kind(value)
                )
            })?;
            self.model = Some(model);
            self.model_at = Some(at);
            return Ok(());
        }
        if name == EARLIER {
            self.earlier_at = value.starts_with(b"\"").then_some(at);
            return Ok(());
        }
        let truth = match value {
            b"true" => true,
            b"false" => false,
            _ => {
                return Err(format!(
                    "`{name}` has the wrong type: it is {}; send true or false",
                    kind(value)
                ));
            }
        };
        match name {
            "stream" => self.stream = truth,
            "store" => self.store = Some(truth),
            _ => self.background = truth,
        }
        Ok(())
    }
}

/// The fields that decide.
const FIELDS: [&str; 5] = ["model", "stream", "store", "background", EARLIER];

const EARLIER: &str = "previous_response_id";

/// Those that bound an answer's length.
const LENGTHS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

fn kind(json: &[u8]) -> &'static str {
    match json.first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_where_it_stands() {
        let body = br#"{"messages":[{"model":"no"}], "model" : "gpt-4o" ,"stream":true}"#;
        let peek = Peek::read(body).unwrap();
        assert_eq!(peek.model.as_deref(), Some("gpt-4o"));
        assert_eq!(&body[peek.model_at.unwrap()], b"\"gpt-4o\"");
        assert!(peek.stream);
        assert_eq!(peek.store, None);
    }

    #[test]
    fn the_least_bound_on_length_is_read_and_what_is_no_number_is_left_to_the_provider() {
        let most = |body: &str| Peek::read(body.as_bytes()).unwrap().most_tokens;
        assert_eq!(most(r#"{"max_tokens":256,"stream":true}"#), Some(256));
        assert_eq!(most(r#"{"max_output_tokens":1e3}"#), Some(1_000));
        assert_eq!(
            most(r#"{"max_completion_tokens":900,"max_tok\u0065ns":64}"#),
            Some(64)
        );
        for strange in ["\"256\"", "null", "-1", "0", "{}", "[5]", "true", "1e999"] {
            let told = most(&format!(
                r#"{{"max_tokens":{strange},"max_tokens":{strange}}}"#
            ));
            assert_eq!(told.filter(|most| *most < u64::MAX), None, "{strange}");
        }
    }

    #[test]
    fn a_call_is_like_others_of_its_model_and_length_where_its_route_knows_models() {
        let kind = |body: &str, dialect| {
            let peek = Peek::read(body.as_bytes()).unwrap();
            peek.kind(dialect, body.len())
        };
        let (one, other) = (
            r#"{"model":"a","max_tokens":16}"#,
            r#"{"model":"b","max_tokens":16}"#,
        );
        assert_ne!(kind(one, Dialect::Openai), kind(other, Dialect::Openai));
        assert_eq!(kind(one, Dialect::Plain), kind(other, Dialect::Plain));
    }

    #[test]
    fn wrong_types_and_broken_json_are_told_apart() {
        let wrong = Peek::read(br#"{"stream":"yes"}"#).unwrap_err();
        assert!(wrong.contains("wrong type"), "{wrong}");
        let model = Peek::read(br#"{"model":7}"#).unwrap_err();
        assert!(model.contains("a number; send a string"), "{model}");
        let twice = Peek::read(br#"{"model":"a","mod\u0065l":"b"}"#).unwrap_err();
        assert!(
            twice.contains("`model` stands in the body twice"),
            "{twice}"
        );
        for broken in [&b"{"[..], b"", b"hello", b"{} {}"] {
            let why = Peek::read(broken).unwrap_err();
            assert!(why.contains("not JSON"), "{why}");
        }
        assert!(Peek::read(b"[1]").is_err());
    }
}
