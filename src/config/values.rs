//! The kinds of value a configuration file holds: durations, sizes, secrets, hedge delays.
//!
//! Promises: each parses from one spelling only, says in one sentence what is wrong with any
//! other, and has a JSON Schema. Never prints a secret.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

pub use super::period::Period;

/// A number of bytes: a bare integer, or a whole number with `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The size in bytes, capped to what this machine can address.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size; write it like 64KiB, 32MiB or 1GiB");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit = match &text[digits..] {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 30) == 0 => write!(out, "{}GiB", bytes >> 30),
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(out, "{}MiB", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(out, "{}KiB", bytes >> 10),
            bytes => write!(out, "{bytes}B"),
        }
    }
}

/// A period that can be switched off: `"15s"` or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Never.
    Off,
    /// Each such time.
    Every(Period),
}

impl std::str::FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let period: Period = text
            .parse()
            .map_err(|_| format!("`{text}` is neither a duration like 15s nor `off`"))?;
        if period.get().is_zero() {
            return Err("a period of zero would never rest; write `off` or a duration".into());
        }
        Ok(Self::Every(period))
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => write!(out, "off"),
            Self::Every(period) => write!(out, "{period}"),
        }
    }
}

/// When a second attempt starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// Never.
    Off,
    /// The delay and probability that the gateway computes from the route's window.
    Auto,
    /// A fixed delay.
    Fixed(Period),
    /// A percentile of the route's own window, in percent: 95.0 for `p95`.
    Percentile(f64),
}

impl std::str::FromStr for HedgeAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => return Ok(Self::Off),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        if let Some(percent) = text.strip_prefix('p') {
            return match percent.parse::<f64>() {
                Ok(value) if value > 0.0 && value < 100.0 => Ok(Self::Percentile(value)),
                _ => Err(format!(
                    "`{text}` is not a percentile; write p50, p95, p99.9: above p0, below p100"
                )),
            };
        }
        text.parse().map(Self::Fixed).map_err(|_| {
            format!("`{text}` is not a hedge delay; write p95, a duration like 300ms, auto or off")
        })
    }
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => write!(out, "off"),
            Self::Auto => write!(out, "auto"),
            Self::Fixed(period) => write!(out, "{period}"),
            Self::Percentile(percent) => write!(out, "p{percent}"),
        }
    }
}

/// Reads a value from its spelling, and says what is wanted where there is something else.
struct Spelling<T>(&'static str, std::marker::PhantomData<T>);

impl<T: std::str::FromStr<Err = String>> Visitor<'_> for Spelling<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Gives a string-spelled value its `Deserialize` and its schema.
macro_rules! spelled {
    ($type:ty, $name:literal, $pattern:literal, $says:literal, $wanted:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Spelling($wanted, std::marker::PhantomData))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $says })
            }
        }
    };
}

spelled!(
    Period,
    "Period",
    r"^([0-9]+ms|[0-9]+(\.[0-9]{1,3})?(s|m|h))$",
    "A duration: 250ms, 1.5s, 15m, 24h.",
    "a duration, in quotes and with its unit: \"5s\", \"250ms\""
);
spelled!(
    Size,
    "Size",
    "^[0-9]+(B|KiB|MiB|GiB)?$",
    "A size: 64KiB, 32MiB, 1GiB.",
    "a size, in quotes and with its unit: \"64KiB\", \"32MiB\""
);
spelled!(
    Switch,
    "Switch",
    r"^(off|[0-9]+ms|[0-9]+(\.[0-9]{1,3})?(s|m|h))$",
    "A duration, or `off`.",
    "a duration or \"off\", in quotes: \"15s\""
);
spelled!(
    HedgeAfter,
    "HedgeAfter",
    r"^(off|auto|p[0-9]+(\.[0-9]+)?|[0-9]+ms|[0-9]+(\.[0-9]{1,3})?(s|m|h))$",
    "p95, a duration, auto or off.",
    "a hedge delay, in quotes: \"p95\", \"300ms\", \"auto\" or \"off\""
);

/// Where a secret is read from; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// Name of an environment variable that holds it; a trailing line break is taken off.
    #[serde(default)]
    pub env: Option<String>,
    /// Path of a file that holds it; a trailing line break is taken off.
    #[serde(default)]
    pub file: Option<std::path::PathBuf>,
}

/// A secret in memory. Its `Debug` and `Display` never show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    /// A sentence that names the variable or file, never its content.
    pub fn read(&self) -> Result<Secret, String> {
        match (&self.env, &self.file) {
            (Some(name), None) => match std::env::var(name) {
                Ok(text) if !text.trim().is_empty() => Ok(Secret(text.trim().to_owned())),
                _ => Err(format!(
                    "the environment variable {name} is not set; export it"
                )),
            },
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) if !text.trim().is_empty() => Ok(Secret(text.trim().to_owned())),
                Ok(_) => Err(format!("the file {} is empty", path.display())),
                Err(error) => Err(format!(
                    "the file {} cannot be read: {error}; name another one or change its rights",
                    path.display()
                )),
            },
            _ => Err("a secret needs exactly one of `env` and `file`".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What an editor lets pass, without the pattern's anchors.
    fn spellings<T: JsonSchema>() -> impl Strategy<Value = String> {
        let schema = T::json_schema(&mut SchemaGenerator::default());
        let pattern = schema.as_value()["pattern"].as_str().unwrap().to_owned();
        let bare = pattern
            .trim_matches(['^', '$'])
            .replace("[0-9]+", "[1-9][0-9]?");
        proptest::string::string_regex(&bare).unwrap()
    }

    proptest! {
        #[test]
        fn what_an_editor_lets_pass_is_read(
            period in spellings::<Period>(),
            size in spellings::<Size>(),
            switch in spellings::<Switch>(),
            after in spellings::<HedgeAfter>(),
        ) {
            prop_assert!(period.parse::<Period>().is_ok(), "{period}");
            prop_assert!(size.parse::<Size>().is_ok(), "{size}");
            prop_assert!(switch.parse::<Switch>().is_ok(), "{switch}");
            prop_assert!(after.parse::<HedgeAfter>().is_ok(), "{after}");
        }
    }
}
