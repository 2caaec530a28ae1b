//! Which model an answer says that it is from: a name that was asked for may stand for another.
//!
//! Promises: looks only at the first bytes of an answer, and builds nothing but the name.

use crate::upstream::scan::{Wrong, find, leading_members, text_of};
use crate::upstream::sse;

/// Bytes that are looked at.
const LOOKED_AT: usize = 16 << 10;

/// Bytes of a name that is one.
const LONGEST: usize = 256;

/// The model told by the first piece of an answer, JSON or a stream of events. In both APIs it stands
/// in the object itself, or in what its first event speaks of.
pub fn model_in(piece: &[u8]) -> Option<String> {
    let piece = &piece[..piece.len().min(LOOKED_AT)];
    let json = piece.trim_ascii_start();
    if json.starts_with(b"{") {
        return told(json, true);
    }
    let mut events = piece.split(|byte| *byte == b'\n').filter_map(sse::data);
    told(events.next()?, true)
}

fn told(object: &[u8], outer: bool) -> Option<String> {
    const NAMES: [&str; 3] = ["model", "response", "message"];
    let mut found = None;
    // What comes after it, or is cut off, is not looked at.
    let _ = leading_members(object, |member| {
        let value = &object[member.value];
        found = match find(&object[member.name], &NAMES) {
            Some(0) => text_of(value),
            Some(_) if outer => told(value, false),
            _ => None,
        };
        match found {
            Some(_) => Err(Wrong::Field(String::new())),
            None => Ok(()),
        }
    });
    found.filter(|name| !name.is_empty() && name.len() <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(
                model_in(piece.as_bytes()).as_deref(),
                Some("m-1"),
                "{piece}"
            );
        }
    }

    #[test]
    fn what_tells_none_or_nonsense_tells_none() {
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(LONGEST + 1));
        for piece in [
            "",
            "{}",
            "[1]",
            "data: [DONE]\n\n",
            r#"{"model":7}"#,
            r#"{"model":null}"#,
            r#"{"model":""}"#,
            r#"{"choices":[{"message":{"model":"m"}}]}"#,
            r#"{"response":{"message":{"model":"m"}}}"#,
            r#"{"model":"cut of"#,
            "event: ping\n\n",
            &long,
        ] {
            assert_eq!(model_in(piece.as_bytes()), None, "{piece}");
        }
    }
}
