//! A length of time, as the file, headers and queries write it.
//!
//! Promises: read to the millisecond, never rounded; says in one sentence what is wrong with any other
//! text.

use std::fmt;
use std::time::Duration;

/// A length of time, written as a number and a unit: `250ms`, `1.5s`, `15m`, `24h`.
///
/// Limits: whole milliseconds, at least zero, at most 365 days; three decimals at most. `0s` is
/// allowed; a key that must not be zero says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

const LONGEST: Duration = Duration::from_hours(8760);

impl Period {
    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// A period of whole milliseconds, for defaults.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// A period of whole seconds, for defaults.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration; write it like 250ms, 2s, 15m or 24h");
        let number = text.trim_end_matches(|one: char| one.is_ascii_alphabetic());
        let unit = match &text[number.len()..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let plain = |digits: &str| digits.bytes().all(|one| one.is_ascii_digit());
        if whole.is_empty() || decimals.is_empty() || !plain(whole) || !plain(decimals) {
            return Err(wrong());
        }
        if decimals.len() > 3 || (unit == 1 && number.contains('.')) {
            return Err(format!(
                "`{text}` is too fine; write whole milliseconds, like 250ms, or three decimals at \
                 most, like 1.5s"
            ));
        }
        let thousandths = match decimals.len() {
            1 => 100,
            2 => 10,
            _ => 1,
        };
        let numbers = whole.parse::<u64>().ok().zip(decimals.parse::<u64>().ok());
        let millis = numbers.and_then(|(whole, decimals)| {
            let part = decimals * thousandths * unit / 1_000;
            whole.checked_mul(unit)?.checked_add(part)
        });
        millis
            .map(Duration::from_millis)
            .filter(|period| *period <= LONGEST)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is longer than a year; use at most 8760h"))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => write!(out, "0s"),
            _ if millis.is_multiple_of(3_600_000) => write!(out, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(out, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1_000) => write!(out, "{}s", millis / 1_000),
            _ => write!(out, "{millis}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::{HedgeAfter, Switch};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decimals_are_read_to_the_millisecond(whole in 0..1_000_u64, thousandths in 0..1_000_u64) {
            for (unit, millis) in [("s", 1_000), ("m", 60_000), ("h", 3_600_000)] {
                let period: Period = format!("{whole}.{thousandths:03}{unit}").parse().unwrap();
                prop_assert_eq!(period, Period::from_millis((whole * 1_000 + thousandths) * millis / 1_000));
            }
        }
    }

    #[test]
    fn a_duration_has_decimals_down_to_whole_milliseconds() {
        let read = |text: &str| text.parse::<Period>().map(|period| period.to_string());
        for (text, told) in [
            ("1.5s", "1500ms"),
            ("0.25h", "15m"),
            ("2.50s", "2500ms"),
            ("1.0m", "1m"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(told));
        }
        for fine in ["1.5ms", "1.0005s", "0.0001h"] {
            assert!(
                read(fine).unwrap_err().contains("whole milliseconds"),
                "{fine}"
            );
        }
        for wrong in [
            "", "s", ".5s", "1.s", "1..5s", "1.5", "1,5s", "-1.5s", "1.5 s", "1e3s", "é5s", "5é",
        ] {
            assert!(
                read(wrong).unwrap_err().contains("is not a duration"),
                "{wrong}"
            );
        }
        for long in ["8760.001h", "99999999999999999999s", "9999999999999999999h"] {
            assert!(
                read(long).unwrap_err().contains("longer than a year"),
                "{long}"
            );
        }
        assert_eq!("0.5s".parse(), Ok(Switch::Every(Period::from_millis(500))));
        assert_eq!(
            "0.5s".parse(),
            Ok(HedgeAfter::Fixed(Period::from_millis(500)))
        );
    }
}
