//! Values of a configuration: what is read is written and read again the same; a glob matches what
//! its definition says; a refused database address is not repeated.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use shunt::config::{Glob, HedgeAfter, PathPattern, Period, PostgresAddress, Size, Switch};

fn again<T: FromStr<Err = String> + Display + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => assert!(value.to_string().parse() == Ok(value), "{text}"),
        Err(why) => assert!(!why.is_empty()),
    }
}

/// Whether a glob matches, by the definition: a table of all beginnings.
fn oracle(pattern: &[char], text: &[char]) -> bool {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for one in pattern {
        let mut next = vec![false; text.len() + 1];
        next[0] = row[0] && *one == '*';
        for at in 0..text.len() {
            next[at + 1] = match one {
                '*' => next[at] || row[at + 1],
                one => row[at] && (*one == '?' || *one == text[at]),
            };
        }
        row = next;
    }
    row[text.len()]
}

fuzz_target!(|text: &str| {
    again::<Period>(text);
    again::<Size>(text);
    again::<Switch>(text);
    again::<HedgeAfter>(text);
    if let Some((pattern, text)) = text.split_once('\n').filter(|(one, _)| one.len() < 300) {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(
            Glob::new(pattern).matches(text),
            oracle(&chars(pattern), &chars(text))
        );
        if let Ok(pattern) = PathPattern::parse(pattern) {
            assert!(pattern.covers(&pattern));
            if let Ok(other) = PathPattern::parse(text)
                && other.covers(&pattern)
                && pattern.covers(&other)
            {
                assert!(other == pattern);
            }
        }
    }
    // A password in an address: the sentence is the same for each, so it shows none.
    if !text.contains(['@', '/', '?', '#']) {
        let why = |password: &str| {
            PostgresAddress::parse(&format!("postgres://me:{password}@db/jobs")).err()
        };
        assert_eq!(why(text), why("hunter2"));
    }
    let _ = PostgresAddress::parse(text);
});
