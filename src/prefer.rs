//! The words of a `Prefer` line (RFC 7240).

/// Parts between separators that stand outside of quotes.
pub fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |one| {
        if one == '"' {
            quoted = !quoted;
        }
        one == separator && !quoted
    })
}

/// `name=value`, with the value's quotes taken off.
pub fn pair(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let value = value.trim();
    let bare = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    (name.trim(), bare.unwrap_or(value))
}
