//! How urgent a caller says that a job is, among its own jobs.
//!
//! Promises: it orders one caller's jobs and nobody else's, so that nobody gains by always sending
//! the highest. Levels and default as Jakarta Messaging has them.

use serde::Serialize;

/// 0 to 9, the highest first; 4 where nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Priority(u8);

impl Priority {
    /// The highest.
    pub const HIGHEST: u8 = 9;

    /// One of the levels; `None` if there is no such.
    pub fn new(level: u8) -> Option<Self> {
        (level <= Self::HIGHEST).then_some(Self(level))
    }

    /// Reads one digit.
    pub fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [digit] if digit.is_ascii_digit() => Self::new(digit - b'0'),
            _ => None,
        }
    }

    /// Its number.
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_one_digit_and_nothing_else() {
        for level in 0..=Priority::HIGHEST {
            let read = Priority::parse(&level.to_string());
            assert_eq!(read.map(Priority::level), Some(level));
        }
        for wrong in ["", "10", "-1", "+1", "1.0", "high", " 1", "٣"] {
            assert_eq!(Priority::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Priority::new(10), None);
    }
}
