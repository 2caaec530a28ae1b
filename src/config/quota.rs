//! How much of a provider's rate limits its jobs leave to hot calls.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Period;

/// A provider's rate limits, which hot calls and jobs share.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Jobs start only while at least this share of the requests and tokens that the provider
    /// allows is left; from 0 to 1. Where it tells none, it does nothing.
    pub reserve_for_hot: f64,
    /// The longest `Retry-After` of a 429 for which jobs wait.
    pub longest_hold: Period,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            reserve_for_hot: 0.3,
            longest_hold: Period::from_secs(10 * 60),
        }
    }
}
