//! Turns a parsed file into its types and goes on after each mistake, so that all are told.
//!
//! serde stops at the first mistake. So each key that does not fit is told, taken out, and the
//! rest is read again; a mistake that only follows from a key that was taken out is not told.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::load::Problem;
use super::wanted::wanted;
use super::{Config, MISSPELT};
use crate::nearest::nearest;

/// Mistakes told at most.
const MOST: usize = 100;

/// One step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    At(usize),
}

/// What became of a file.
pub(super) struct Typed {
    /// What could be read; with mistakes, without the keys that do not fit.
    pub config: Option<Config>,
    /// A table had to go because it lacked a key: names may be missing that the file has.
    pub partial: bool,
    /// What was wrong, and where.
    pub problems: Vec<(Range<usize>, Problem)>,
}

/// Reads a file's tree.
pub(super) fn typed(whole: &Spanned<DeTable<'_>>) -> Typed {
    let mut tree = whole.clone();
    let mut read = Typed {
        config: None,
        partial: false,
        problems: Vec::new(),
    };
    let mut removed: Vec<Vec<Step>> = Vec::new();
    for _ in 0..MOST {
        let error = match Config::deserialize(Deserializer::from(tree.clone())) {
            Ok(config) => {
                read.config = Some(config);
                break;
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let path = find(tree.get_ref(), &span).unwrap_or_default();
        let missing = quoted_after(error.message(), "missing field ");
        let follows = missing.is_some_and(|name| {
            let mut lacking = path.clone();
            lacking.push(Step::Key(name.to_owned()));
            removed.contains(&lacking)
        });
        if !follows {
            // Told by its place in the file, which removals before it do not move.
            let place = find(whole.get_ref(), &span).unwrap_or_default();
            read.problems.push((span, problem(&place, &error)));
        }
        read.partial |= missing.is_some() || path.iter().any(|step| matches!(step, Step::At(_)));
        if path.is_empty() {
            break;
        }
        remove(tree.get_mut(), &path);
        removed.push(path);
    }
    read
}

/// The way to the value or key that stands exactly there.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    table.iter().find_map(|(key, value)| {
        let step = Step::Key(key.get_ref().to_string());
        if key.span() == *span {
            return Some(vec![step]);
        }
        find_in(value, span).map(|rest| [vec![step], rest].concat())
    })
}

fn find_in(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<Step>> {
    let deeper = match value.get_ref() {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(all) => all.iter().enumerate().find_map(|(at, one)| {
            find_in(one, span).map(|rest| [vec![Step::At(at)], rest].concat())
        }),
        _ => None,
    };
    deeper.or_else(|| (value.span() == *span).then(Vec::new))
}

fn remove(table: &mut DeTable<'_>, path: &[Step]) {
    let Some((Step::Key(key), rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.remove(key.as_str());
    } else if let Some(value) = table.get_mut(key.as_str()) {
        remove_in(value.get_mut(), rest);
    }
}

fn remove_in(value: &mut DeValue<'_>, path: &[Step]) {
    match (value, path.split_first()) {
        (DeValue::Table(table), _) => remove(table, path),
        (DeValue::Array(all), Some((Step::At(at), []))) => {
            let kept = std::mem::replace(all, DeArray::new()).into_iter();
            let kept = kept.enumerate().filter(|(index, _)| index != at);
            *all = kept.map(|(_, one)| one).collect();
        }
        (DeValue::Array(all), Some((Step::At(at), rest))) => {
            if let Some(one) = all.get_mut(*at) {
                remove_in(one.get_mut(), rest);
            }
        }
        _ => {}
    }
}

fn written(path: &[Step]) -> String {
    let steps = path.iter().enumerate().map(|(index, step)| match step {
        Step::At(at) => format!("[{at}]"),
        Step::Key(key) if index == 0 => key.clone(),
        Step::Key(key) => format!(".{key}"),
    });
    steps.collect()
}

/// serde's words as a sentence that says what would be right; never the text of a secret.
fn problem(path: &[Step], error: &Error) -> Problem {
    let message = error.message();
    let key = written(path);
    let says = if message.contains("SecretSource") || message.contains("enum Secrets") {
        "a secret is never written inline; write { env = \"NAME\" } or { file = \"PATH\" }".into()
    } else if let Some(name) = quoted_after(message, "missing field ") {
        format!("`{name}` is missing; add it")
    } else if let Some(name) = quoted_after(message, "unknown field ") {
        format!("is not a key here; {}", instead(name, message))
    } else if let Some(name) = quoted_after(message, "unknown variant ") {
        format!("`{name}` is not known; {}", instead(name, message))
    } else if message.contains("enum TargetEntry") {
        "takes names of providers, or { provider = \"NAME\", weight = 1, model = \"…\" }".into()
    } else {
        wanted(&key, message)
    };
    Problem { key, says }
}

/// The word in backquotes that follows an introduction.
fn quoted_after<'a>(message: &'a str, introduction: &str) -> Option<&'a str> {
    message
        .strip_prefix(introduction)?
        .strip_prefix('`')?
        .split('`')
        .next()
}

/// The nearest of the words that serde expected, or all of them.
fn instead(name: &str, message: &str) -> String {
    let expected = message.split_once("expected").map_or("", |(_, rest)| rest);
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    if known.is_empty() {
        return "nothing is expected here".to_owned();
    }
    nearest(name, known.iter().copied(), MISSPELT).map_or_else(
        || format!("known are {}", known.join(", ")),
        |one| format!("did you mean `{one}`?"),
    )
}
