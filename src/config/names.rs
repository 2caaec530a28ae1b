//! `[names]`: how the names of providers and of receivers of callbacks are looked up.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Period;

/// Bounds of look-ups.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Names {
    /// Where a name was found before, longest wait for its next look-up.
    pub patience: Period,
    /// Longest look-up.
    pub timeout: Period,
    /// While look-ups do not answer, what was found last is used for so long.
    pub stale: Period,
    /// Threads that the system's resolver may hold.
    pub threads: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            patience: Period::from_millis(250),
            timeout: Period::from_secs(5),
            stale: Period::from_secs(3_600),
            threads: 4,
        }
    }
}

impl Names {
    /// Those that must be more, and are not.
    pub(super) fn that_are_zero(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("patience", self.patience.get().is_zero()),
            ("timeout", self.timeout.get().is_zero()),
            ("threads", self.threads == 0),
        ];
        all.into_iter()
            .filter_map(|(key, zero)| zero.then_some(key))
    }
}
