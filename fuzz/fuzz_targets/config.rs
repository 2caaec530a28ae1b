//! A configuration file: never a panic; every mistake is one line with a place inside the file; a
//! file that is taken holds what the gateway builds on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shunt::config::{PathPattern, parse};

fuzz_target!(|text: &str| {
    match parse(text, "f") {
        Ok(config) => {
            assert!(!config.providers.is_empty());
            for route in &config.routes {
                assert!(PathPattern::parse(&route.matches.path).is_ok());
                for target in &route.targets {
                    assert!(config.providers.contains_key(&target.table().provider));
                }
            }
            // A file that is read twice is read the same.
            assert!(parse(text, "f").as_ref() == Ok(&config));
        }
        Err(problems) => {
            let told = problems.to_string();
            assert!(!told.is_empty());
            let lines: Vec<&str> = text.split('\n').collect();
            for problem in told.split('\n') {
                let mut parts = problem.splitn(4, ':');
                assert_eq!(parts.next(), Some("f"), "{told}");
                let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok());
                let (line, column) = (number().expect(&told), number().expect(&told));
                let there = lines.get(line - 1).expect("a line of the file");
                assert!((1..=there.chars().count() + 1).contains(&column), "{told}");
                let says = parts.next().unwrap_or_default();
                assert!(!says.trim().is_empty(), "{told}");
                assert!(!says.chars().any(char::is_control), "{told:?}");
            }
        }
    }
});
