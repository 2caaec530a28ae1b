//! Patterns of routes: globs for models and headers, prefixes for paths.

use std::fmt;
use std::str::Chars;

/// A glob: `*` stands for any text, `?` for one character; everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<char>);

impl Glob {
    /// Any text is a glob.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.chars().collect())
    }

    /// The character that all texts begin with for which it stands, if there is one.
    pub fn begins_with(&self) -> Option<char> {
        let first = self.0.first();
        first.copied().filter(|first| !matches!(first, '*' | '?'))
    }

    /// Whether it stands for this text. Time grows with the product of both lengths at worst;
    /// allocates nothing.
    pub fn matches(&self, text: &str) -> bool {
        let (mut at, mut rest) = (0, text.chars());
        // What follows the last star, and the text that it has not swallowed so far.
        let mut star: Option<(usize, Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            match (self.0.get(at), ahead.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    at += 1;
                    star = Some((at, rest.clone()));
                }
                (Some(&wanted), Some(here)) if wanted == '?' || wanted == here => {
                    at += 1;
                    rest = ahead;
                }
                _ => {
                    // The last star swallows one character more, if one is left.
                    let Some((after, left)) = &mut star else {
                        return false;
                    };
                    if left.next().is_none() {
                        return false;
                    }
                    at = *after;
                    rest = left.clone();
                }
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|one| write!(out, "{one}"))
    }
}

/// A path: exact, or everything that begins with what stands before a trailing `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    prefix: bool,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence when it does not begin with `/` or has a `*` elsewhere than at its end.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let (text, prefix) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        if !text.starts_with('/') || text.contains('*') {
            return Err(format!(
                "`{pattern}` is not a path; write /v1/chat/completions, or /v1/* for all below"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            prefix,
        })
    }

    /// Whether it stands for this path.
    pub fn matches(&self, path: &str) -> bool {
        if self.prefix {
            path.starts_with(&self.text)
        } else {
            path == self.text
        }
    }

    /// Whether some path that begins so is one of its own.
    pub fn may_begin_with(&self, beginning: &str) -> bool {
        self.text.starts_with(beginning) || (self.prefix && beginning.starts_with(&self.text))
    }

    /// Whether every path that `other` stands for is one of its own.
    pub fn covers(&self, other: &Self) -> bool {
        if self.prefix {
            other.text.starts_with(&self.text)
        } else {
            !other.prefix && self.text == other.text
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn oracle(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                oracle(&pattern[1..], text) || !text.is_empty() && oracle(pattern, &text[1..])
            }
            (Some(one), Some(other)) if *one == '?' || one == other => {
                oracle(&pattern[1..], &text[1..])
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_match_what_their_definition_says(pattern in "[ab*?]{0,7}", text in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                Glob::new(&pattern).matches(&text),
                oracle(&chars(&pattern), &chars(&text))
            );
            let begins = Glob::new(&pattern).begins_with();
            let other = begins.is_some() && begins != text.chars().next();
            prop_assert!(!(other && Glob::new(&pattern).matches(&text)));
        }
    }

    #[test]
    fn paths_match_exactly_or_below() {
        let exact = PathPattern::parse("/v1/models").unwrap();
        assert!(exact.matches("/v1/models") && !exact.matches("/v1/models/x"));
        let below = PathPattern::parse("/v1/*").unwrap();
        assert!(below.matches("/v1/x/y") && !below.matches("/v2"));
        assert!(below.covers(&exact) && !exact.covers(&below));
        assert!(exact.may_begin_with("/v1/") && !exact.may_begin_with("/v1/models/"));
        for (pattern, may) in [
            ("/*", true),
            ("/v1/a*", true),
            ("/v1beta/*", false),
            ("/v", false),
        ] {
            let pattern = PathPattern::parse(pattern).unwrap();
            assert_eq!(pattern.may_begin_with("/v1/"), may, "{pattern}");
        }
        assert!(PathPattern::parse("v1").is_err() && PathPattern::parse("/a*b").is_err());
    }
}
