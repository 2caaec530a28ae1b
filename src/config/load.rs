//! Reads a configuration file and says what is wrong with it, with line and column.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::check::{check, doubts};
use super::typed::typed;

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

/// A file without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What in it is hardly meant so, one a line, in the form of a problem.
    pub warnings: Vec<String>,
}

/// Reads a file.
///
/// # Errors
/// Every mistake in it.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with_warnings(path).map(|loaded| loaded.config)
}

/// The same, with what is hardly meant.
///
/// # Errors
/// Every mistake in it.
pub fn load_with_warnings(path: &Path) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let source = std::fs::read_to_string(path).map_err(|error| {
        Problems(vec![format!(
            "{name}:1:1: the file cannot be read: {error}; give --config FILE"
        )])
    })?;
    parse_with_warnings(&source, &name)
}

/// Reads a file's text; `file` is its name in messages.
///
/// # Errors
/// Every mistake in it, in the order of the file.
pub fn parse(source: &str, file: &str) -> Result<Config, Problems> {
    parse_with_warnings(source, file).map(|loaded| loaded.config)
}

/// The same, with what is hardly meant.
///
/// # Errors
/// Every mistake in it, in the order of the file.
pub fn parse_with_warnings(source: &str, file: &str) -> Result<Loaded, Problems> {
    let (tree, broken) = DeTable::parse_recoverable(source);
    let mut found: Vec<(Range<usize>, Problem)> = broken
        .iter()
        .map(|error| (error.span().unwrap_or(0..0), unreadable(error)))
        .collect();
    let mut config = None;
    if found.is_empty() {
        let read = typed(&tree);
        found = read.problems;
        // What a missing table would make wrong elsewhere is not told.
        if let Some(read_config) = read.config.as_ref().filter(|_| !read.partial) {
            let more = check(read_config).into_iter();
            found.extend(more.map(|problem| placed(&tree, problem)));
        }
        config = read.config;
    }
    let lines = |mut found: Vec<(Range<usize>, Problem)>| {
        found.sort_by_key(|(at, _)| at.start);
        let line = |(at, problem): &(Range<usize>, Problem)| {
            told(source, file, at, &problem.key, &problem.says)
        };
        found.iter().map(line).collect()
    };
    let Some(config) = config.filter(|_| found.is_empty()) else {
        return Err(Problems(lines(found)));
    };
    let stands = |key: &str| span(tree.get_ref(), key).is_some_and(|(_, whole)| whole);
    let doubts = doubts(&config, stands).into_iter();
    let warnings = lines(doubts.map(|problem| placed(&tree, problem)).collect());
    Ok(Loaded { config, warnings })
}

fn placed(tree: &Spanned<DeTable>, problem: Problem) -> (Range<usize>, Problem) {
    let at = span(tree.get_ref(), &problem.key);
    (at.map_or(0..0, |(at, _)| at), problem)
}

/// What is no TOML.
fn unreadable(error: &toml::de::Error) -> Problem {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    Problem {
        key: String::new(),
        says: format!("is no TOML: {message}"),
    }
}

fn told(source: &str, file: &str, span: &Range<usize>, key: &str, says: &str) -> String {
    let before = source.get(..span.start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|one| *one != '\n').count() + 1;
    let told = if key.is_empty() {
        says.to_owned()
    } else {
        format!("{key}: {says}")
    };
    format!("{file}:{line}:{column}: {}", on_one_line(&told))
}

/// Words of the file may hold line breaks, or what a terminal takes for a command.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for one in text.chars() {
        if one.is_control() {
            line.extend(one.escape_default());
        } else {
            line.push(one);
        }
    }
    line
}

/// Where the nearest existing part of a key stands, and whether that is the whole key;
/// `routes[1].targets` is a path.
fn span(table: &DeTable, key: &str) -> Option<(Range<usize>, bool)> {
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
        DeValue::Table(inner) if !rest.is_empty() => {
            Some(span(inner, rest).unwrap_or((here, false)))
        }
        _ => Some((here, rest.is_empty())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found while the fuzz target `config` was written.
    #[test]
    fn each_mistake_is_one_line_whatever_words_the_file_has() {
        let source = "[providers.\"a\\nb\"]\nbase_url = \"https://a.example\"\n\
                      [[routes]]\nname = \"r\"\nmatch = { path = \"v1\\u001b[2J\" }\ntargets = [\"c\\rd\"]\n";
        let told = parse(source, "f").unwrap_err().to_string();
        assert_eq!(told.lines().count(), 3, "{told}");
        for line in told.split('\n') {
            assert!(line.starts_with("f:") && !line.chars().any(char::is_control));
        }
        assert!(
            told.contains("a\\nb") && told.contains("\\u{1b}[2J"),
            "{told}"
        );
    }
}
