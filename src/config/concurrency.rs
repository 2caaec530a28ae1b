//! How many calls a target gets at once.

use schemars::JsonSchema;
use serde::Deserialize;

/// Whether calls in flight are limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConcurrencyMode {
    /// They are not.
    #[default]
    Off,
    /// To `limit`.
    Fixed,
    /// To what the target's latency shows that it takes, from `min` to `max`.
    Adaptive,
}

/// Calls in flight to each target at this provider, and those that wait for a place.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// Whether and how calls in flight are limited.
    pub mode: ConcurrencyMode,
    /// Calls in flight at one target; where it is adaptive, at first.
    pub limit: u32,
    /// Adaptive: the lowest limit.
    pub min: u32,
    /// Adaptive: the highest limit.
    pub max: u32,
    /// Calls that wait for a place at one target; a further one is demoted or refused.
    pub queue: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            mode: ConcurrencyMode::Off,
            limit: 20,
            min: 4,
            max: 1_000,
            queue: 100,
        }
    }
}
