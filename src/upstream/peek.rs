//! What a call needs of its JSON body, read by a scan that builds no tree.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

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

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    store: Option<bool>,
    #[serde(default)]
    background: Option<bool>,
}

impl Peek {
    /// Reads a body.
    ///
    /// # Errors
    /// A sentence: it is not a JSON object, or a field has the wrong type.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let fields: Fields = serde_json::from_slice(body).map_err(|error| {
            if error.is_data() {
                format!("the body has a field of the wrong type: {error}")
            } else {
                format!("the body is not JSON: {error}; send a JSON object")
            }
        })?;
        let mut peek = Self {
            stream: fields.stream.unwrap_or(false),
            store: fields.store,
            background: fields.background.unwrap_or(false),
            ..Self::default()
        };
        if let Some(raw) = fields.model.filter(|raw| raw.get() != "null") {
            let model: Cow<str> = serde_json::from_str(raw.get())
                .map_err(|_| format!("`model` is {}; send a string", kind(raw.get())))?;
            let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
            peek.model_at = Some(start..start + raw.get().len());
            peek.model = Some(model.into_owned());
        }
        Ok(peek)
    }
}

fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
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
        for broken in [&b"{"[..], b"", b"hello", b"{} {}"] {
            let why = Peek::read(broken).unwrap_err();
            assert!(why.contains("not JSON"), "{why}");
        }
        assert!(Peek::read(b"[1]").is_err());
    }
}
