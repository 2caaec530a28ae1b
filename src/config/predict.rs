//! When a call that may become a job is told so on arrival.

use schemars::JsonSchema;
use serde::Deserialize;

/// Calls that will hardly meet their budget.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {
    /// A call whose chance to meet its budget is under this is a job on arrival, if its caller
    /// asked for a 202; 0: off.
    pub floor: f64,
    /// Samples of the last five minutes below which a class of calls is not believed, and the next
    /// wider one is asked.
    pub min_samples: u32,
    /// Classes of calls told apart at most, the wider ones among them; some 9 kB each.
    pub classes: usize,
}

impl Default for Predict {
    fn default() -> Self {
        Self {
            floor: 0.05,
            min_samples: 100,
            classes: 64,
        }
    }
}
