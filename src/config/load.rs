//! Reads a configuration file and says what is wrong with it, with line and column.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::check::check;

/// A mistake, where it stands and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `routes[0].targets`; empty for the file.
    pub key: String,
    /// What is wrong; what would be right.
    pub says: String,
}

/// Every mistake of a file, one a line: `FILE:LINE:COLUMN: key: what is wrong; what would be right`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// Reads a file.
///
/// # Errors
/// Every mistake in it.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let source = std::fs::read_to_string(path).map_err(|error| {
        Problems(vec![format!(
            "{name}:1:1: the file cannot be read: {error}; give --config FILE"
        )])
    })?;
    parse(&source, &name)
}

/// Reads a file's text; `file` is its name in messages.
///
/// # Errors
/// Every mistake in it.
pub fn parse(source: &str, file: &str) -> Result<Config, Problems> {
    let config: Config = toml::from_str(source).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let key = key_at(source, span.start);
        Problems(vec![told(
            source,
            file,
            &span,
            key,
            &plain(error.message()),
        )])
    })?;
    let mut found = check(&config);
    if found.is_empty() {
        return Ok(config);
    }
    let tree = DeTable::parse(source).ok();
    let lines = found.drain(..).map(|problem| {
        let span = tree
            .as_ref()
            .and_then(|tree| span(tree.get_ref(), &problem.key));
        told(
            source,
            file,
            &span.unwrap_or(0..0),
            &problem.key,
            &problem.says,
        )
    });
    Err(Problems(lines.collect()))
}

/// A parser's words, in one line, without the value where a secret belongs.
fn plain(message: &str) -> String {
    if message.contains("SecretSource") || message.contains("enum Secrets") {
        return "a secret is never written inline; write { env = \"NAME\" } or { file = \"PATH\" }"
            .into();
    }
    message.lines().collect::<Vec<_>>().join(", ")
}

/// The key on the left of a value, for errors that do not name it.
fn key_at(source: &str, at: usize) -> &str {
    let before = source.get(..at).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let key = line.rsplit([',', '{']).next().unwrap_or_default();
    key.split_once('=').map_or("", |(key, _)| key.trim())
}

fn told(source: &str, file: &str, span: &Range<usize>, key: &str, says: &str) -> String {
    let before = source.get(..span.start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|one| *one != '\n').count() + 1;
    if key.is_empty() {
        format!("{file}:{line}:{column}: {says}")
    } else {
        format!("{file}:{line}:{column}: {key}: {says}")
    }
}

/// Where the nearest existing part of a key stands; `routes[1].targets` is a path.
fn span(table: &DeTable, key: &str) -> Option<Range<usize>> {
    let (step, rest) = key.split_once('.').unwrap_or((key, ""));
    let (name, at) = match step.split_once('[') {
        Some((name, at)) => (name, at.trim_end_matches(']').parse::<usize>().ok()),
        None => (step, None),
    };
    let (found, value) = table.iter().find(|(one, _)| one.get_ref() == name)?;
    let value: &Spanned<DeValue> = match (at, value.get_ref()) {
        (Some(at), DeValue::Array(all)) => all.get(at)?,
        _ => value,
    };
    let here = if at.is_some() {
        value.span()
    } else {
        found.span()
    };
    match value.get_ref() {
        DeValue::Table(inner) if !rest.is_empty() => Some(span(inner, rest).unwrap_or(here)),
        _ => Some(here),
    }
}
