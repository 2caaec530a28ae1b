//! What a call needs of its JSON body, read by a scan that builds no tree.

use std::ops::Range;

use super::scan::{Wrong, members};

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
            let Some(field) = field(&body[member.name]) else {
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

    /// Takes the value of one of the `FIELDS`.
    fn take(&mut self, field: usize, body: &[u8], at: Range<usize>) -> Result<(), String> {
        let name = FIELDS[field];
        let value = &body[at.clone()];
        if value == b"null" {
            return Ok(());
        }
        if name == "model" {
            let model: String = serde_json::from_slice(value).map_err(|_| {
                format!(
                    "`model` has the wrong type: it is {}; send a string",
                    kind(value)
                )
            })?;
            self.model = Some(model);
            self.model_at = Some(at);
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
const FIELDS: [&str; 4] = ["model", "stream", "store", "background"];

/// Which of them a name is, quotes included.
fn field(name: &[u8]) -> Option<usize> {
    let plain = &name[1..name.len() - 1];
    if memchr::memchr(b'\\', plain).is_none() {
        return FIELDS.iter().position(|field| field.as_bytes() == plain);
    }
    let told: String = serde_json::from_slice(name).ok()?;
    FIELDS.iter().position(|field| *field == told)
}

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
