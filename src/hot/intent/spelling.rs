//! Headers that look like misspelt ones of Shunt's.
//!
//! A budget that nobody keeps to is worse than an error: such a header is refused. Promises: a header
//! that is spelt right, or begins unlike one of them, costs a comparison or two and no search.

use http::{HeaderMap, HeaderName};

use super::{BUDGET, CALLBACK, PRIORITY, SCOPE, SCOPE_BUDGET};
use crate::nearest::nearest;

/// Headers of Shunt's own, and as they are written.
const HEADERS: [(HeaderName, &str); 5] = [
    (BUDGET, "X-Shunt-Budget"),
    (CALLBACK, "X-Shunt-Callback"),
    (PRIORITY, "X-Shunt-Priority"),
    (SCOPE, "X-Shunt-Scope"),
    (SCOPE_BUDGET, "X-Shunt-Scope-Budget"),
];

/// So many letters apart a name is taken for a misspelt one.
const MISSPELT: usize = 2;

/// Whether no header is a misspelt one.
///
/// # Errors
/// A sentence with the right name.
pub(super) fn spelt_right(headers: &HeaderMap) -> Result<(), String> {
    let headers_of_ours = HEADERS;
    let known = headers_of_ours.each_ref().map(|(name, _)| name.as_str());
    // Each call of OpenAI's and Anthropic's SDKs has eight of the others.
    let doubtful = |name: &&str| {
        let begins = name.starts_with("x-s") && !name.starts_with("x-stainless-");
        begins && name.len() < 40 && !known.contains(name)
    };
    let mut names = headers.keys().map(HeaderName::as_str).filter(doubtful);
    let misspelt = names.find_map(|name| Some((name, nearest(name, known, MISSPELT)?)));
    misspelt.map_or(Ok(()), |(name, known)| {
        let written = headers_of_ours.iter().find(|(header, _)| header == known);
        let written = written.map_or(known, |(_, written)| written);
        Err(format!("there is no header {name}; send {written}"))
    })
}
