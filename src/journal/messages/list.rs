//! A JSON list that is written element by element.

use serde_json::Value;

/// A text, if something is told; or why it is none.
pub type Text = Result<Option<String>, TooLong>;

/// It would be longer than it may be.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// Writes a list; none where it is empty. What would make it longer than `limit` is not asked for.
pub fn list(elements: impl IntoIterator<Item = Value>, limit: usize) -> Text {
    let mut text = String::from("[");
    for element in elements {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&element.to_string());
        if text.len() >= limit {
            return Err(TooLong);
        }
    }
    text.push(']');
    Ok(Some(text).filter(|text| text != "[]"))
}
