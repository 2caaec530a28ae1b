//! Which model an answer says that it is from: a name that was asked for may stand for another.
//!
//! Promises: looks only at the first bytes of an answer, and builds nothing but the name.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use memchr::{memchr, memchr2};

use crate::upstream::scan::{Wrong, find, leading_members, text_of};
use crate::upstream::sse;

/// Bytes that are looked at.
const LOOKED_AT: usize = 16 << 10;

/// Bytes of a name that is one.
const LONGEST: usize = 256;

/// Bytes of an event before the object that it speaks of.
const BEFORE: usize = 256;

/// The member's name, searched for.
static NAME: LazyLock<Finder> = LazyLock::new(|| Finder::new(b"\"model\""));

/// What a piece of an answer tells of its model.
#[derive(Debug, PartialEq, Eq)]
pub enum Answers {
    /// This one answers.
    Model(String),
    /// Later events may tell.
    Later,
    /// Nothing that comes will tell.
    Nobody,
}

/// The model told by a piece that an answer begins with: JSON, or a stream of events.
pub fn answers(piece: &[u8]) -> Answers {
    let piece = &piece[..piece.len().min(LOOKED_AT)];
    let json = piece.trim_ascii_start();
    if json.starts_with(b"{") {
        return told(json).map_or(Answers::Nobody, Answers::Model);
    }
    let mut events = piece.split(|byte| *byte == b'\n').filter_map(sse::data);
    let model = events.find_map(|event| told(event).or_else(|| told(spoken_of(event)?)));
    model.map_or(Answers::Later, Answers::Model)
}

/// The answer that an event speaks of, as a whole or its beginning. Within a text the name's quotes
/// would be escaped.
fn spoken_of(event: &[u8]) -> Option<&[u8]> {
    let before = &event[..event.len().min(BEFORE)];
    let after = |name: &[u8]| Some(memmem::find(before, name)? + name.len());
    let at = after(b"\"response\":").or_else(|| after(b"\"message\":"))?;
    Some(event[at..].trim_ascii_start())
}

/// The model in the object with which a text begins; what is cut off behind it does not matter.
fn told(object: &[u8]) -> Option<String> {
    let found = told_early(object).or_else(|| told_anywhere(object));
    found.filter(|name| !name.is_empty() && name.len() <= LONGEST)
}

/// The same where nothing nested stands before it, as in most answers: the name can be searched for.
/// Within a text a quote of it would be escaped, and what a colon follows is a member's name.
fn told_early(object: &[u8]) -> Option<String> {
    let inner = object.strip_prefix(b"{")?;
    let at = NAME.find(inner)?;
    let before = &inner[..at];
    if before.ends_with(b"\\") || memchr2(b'{', b'[', before).is_some() {
        return None;
    }
    let after = inner[at + NAME.needle().len()..].trim_ascii_start();
    let value = after.strip_prefix(b":")?.trim_ascii_start();
    let end = memchr(b'"', value.get(1..)?)?;
    text_of(&value[..end + 2])
}

fn told_anywhere(object: &[u8]) -> Option<String> {
    let mut found = None;
    let _ = leading_members(object, |member| {
        if find(&object[member.name], &["model"]).is_none() {
            return Ok(());
        }
        found = text_of(&object[member.value]);
        Err(Wrong::Field(String::new()))
    });
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_searched_for_is_what_a_walk_finds(
            members in prop::collection::vec(
                (
                    prop::sample::select(vec!["model", "id", r#"\"model"#, r#"model\""#, ":", "x"]),
                    prop::sample::select(vec![
                        r#""m-1""#,
                        r#""m\"2""#,
                        r#""model""#,
                        r#""\"model\":\"m""#,
                        r#""""#,
                        "7",
                        "null",
                        r#"{"model":"m-3"}"#,
                        "[1]",
                    ]),
                ),
                0..5,
            ),
            colon in prop::sample::select(vec![":", " : "]),
        ) {
            let members = members.iter().map(|(name, value)| format!("\"{name}\"{colon}{value}"));
            let object = format!("{{{}}}", members.collect::<Vec<_>>().join(", "));
            if let Some(name) = told_early(object.as_bytes()) {
                prop_assert_eq!(Some(name), told_anywhere(object.as_bytes()), "{}", object);
            }
        }
    }

    #[test]
    fn the_model_is_found_in_answers_of_both_apis_and_in_their_first_events() {
        for piece in [
            r#"{"id":"x","model":"m-1","choices":[]}"#,
            r#" {"id":"x","choices":[{"model":"other"}],"model":"m-1"}"#,
            "data: {\"id\":\"x\",\"model\":\"m-1\",\"choices\":[]}\n\n",
            ": hello\n\ndata: {\"model\":\"m-1\"}\n\ndata: {\"model\":\"m-2\"}\n\n",
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"m-1\"}}\n\n",
            "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m-1\",\"content\":[]}}\r\n",
            r#"{"model":"m-1","choices":[{"message":"it breaks off h"#,
            "data: {\"choices\":[],\"model\":\"\",\"prompt_filter_results\":[]}\n\ndata: {\"model\":\"m-1\"}\n\n",
            "data: {\"type\":\"response.created\",\"response\": {\"model\":\"m-1\",\"tools\":[{\"it breaks o",
        ] {
            let told = Answers::Model("m-1".into());
            assert_eq!(answers(piece.as_bytes()), told, "{piece}");
        }
    }

    #[test]
    fn what_tells_none_or_nonsense_tells_none() {
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(LONGEST + 1));
        for piece in [
            "{}",
            r#"{"model":7}"#,
            r#"{"model":null}"#,
            r#"{"model":""}"#,
            r#"{"choices":[{"message":{"model":"m"}}]}"#,
            r#"{"response":{"message":{"model":"m"}}}"#,
            r#"{"model":"cut of"#,
            &long,
        ] {
            assert_eq!(answers(piece.as_bytes()), Answers::Nobody, "{piece}");
        }
        for piece in [
            "",
            "[1]",
            "data: [DONE]\n\n",
            "event: ping\n\n",
            ": a comment comes first\n\n",
            "event: message_start\n",
            "data: {\"delta\":\"\\\"response\\\":{\\\"model\\\":\\\"m\\\"}\"}\n\n",
        ] {
            assert_eq!(answers(piece.as_bytes()), Answers::Later, "{piece}");
        }
    }
}
