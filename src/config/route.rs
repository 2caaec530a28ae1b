//! What a configuration may say of a route.
//!
//! Promises: every field but name, match and targets has a default that is safe. Never reads a
//! file, the environment or a socket.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::predict::Predict;
use super::values::{HedgeAfter, Period, Switch};

/// A route: which calls it takes, where they go, and what is promised for them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The name in metrics and answers.
    pub name: String,
    /// Which calls it takes.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Where they go: provider names, or tables with a weight and a model.
    pub targets: Vec<TargetEntry>,
    /// Deadlines.
    #[serde(default)]
    pub budget: Budget,
    /// Second attempts.
    #[serde(default)]
    pub hedge: Hedge,
    /// What happens at the deadline.
    #[serde(default)]
    pub over_budget: OverBudget,
    /// Calls that are jobs on arrival.
    #[serde(default)]
    pub predict: Predict,
    /// Attempts after a failure.
    #[serde(default)]
    pub retries: Retries,
    /// Jobs of this route.
    #[serde(default)]
    pub cold: RouteCold,
}

/// Conditions; all of them must hold.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Path: exact, or with a trailing `*`.
    #[schemars(extend("format" = "shunt-path"))]
    pub path: String,
    /// The JSON body's `model`: a glob with `*` and `?`.
    #[serde(default)]
    pub model: Option<String>,
    /// Header name to a glob that its value must match.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
}

/// One entry of `targets`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetEntry {
    /// A provider's name: weight 1, the caller's model.
    Name(String),
    /// A provider with a weight and a model.
    Table(TargetTable),
}

/// A provider with a weight and a model.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetTable {
    /// The provider's name.
    pub provider: String,
    /// Its share of the calls against the other targets' weights; 0: only for hedges and retries.
    #[serde(default = "weight")]
    pub weight: u32,
    /// The model it is asked for instead of the caller's.
    #[serde(default)]
    pub model: Option<String>,
}

fn weight() -> u32 {
    1
}

impl TargetEntry {
    /// The entry as a table.
    pub fn table(&self) -> TargetTable {
        match self {
            Self::Name(provider) => TargetTable {
                provider: provider.clone(),
                weight: 1,
                model: None,
            },
            Self::Table(table) => table.clone(),
        }
    }
}

/// Deadlines of a call, all from the moment its head was read.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Streams: until the first event that carries content.
    pub first_token: Period,
    /// Answers that do not stream: until the last byte. Streams: see `over_budget.mid_stream`.
    pub total: Period,
    /// Longest silence between two chunks of a stream.
    pub idle: Period,
    /// Tokens a second over any 10 s of a stream, below which it is over budget; 0: off.
    pub min_rate: u32,
    /// Longest wait for a new connection to a provider.
    pub connect: Period,
    /// Streams: an SSE comment each such time until the first token; commits status 200.
    pub keepalive: Switch,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            first_token: Period::from_secs(600),
            total: Period::from_secs(600),
            idle: Period::from_secs(300),
            min_rate: 0,
            connect: Period::from_secs(5),
            keepalive: Switch::Off,
        }
    }
}

/// Which calls may be sent twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Safe {
    /// Shunt's own list: completions, messages, embeddings and plain GETs; nothing that is stored.
    #[default]
    Auto,
    /// Every call of this route.
    Always,
    /// None.
    Never,
}

/// Second attempts.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// A percentile of the route's own window, a duration, `auto`, or `off`.
    pub after: HedgeAfter,
    /// At most this many extra calls per call, as a token bucket.
    pub max_extra: f64,
    /// Attempts of one call running at once, the first included.
    pub max_attempts: u32,
    /// Samples in the window below which a percentile is not believed.
    pub min_samples: u64,
    /// Which calls may be sent twice.
    pub safe: Safe,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            after: HedgeAfter::Off,
            max_extra: 0.05,
            max_attempts: 2,
            min_samples: 200,
            safe: Safe::Auto,
        }
    }
}

/// What happens at the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A job for those who asked; `unasked` for the others.
    #[default]
    Demote,
    /// 504 for everyone.
    Fail,
    /// Nothing is interrupted; what would have happened is counted.
    Observe,
}

/// What a caller gets that did not ask for a 202.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unasked {
    /// 504.
    #[default]
    Fail,
    /// 303 to the result.
    SeeOther,
    /// The call goes on.
    Wait,
}

/// A stream past `budget.total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MidStream {
    /// Runs to its end.
    #[default]
    Finish,
    /// Is cut.
    Cut,
}

/// What happens at the deadline.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverBudget {
    /// For callers that asked to be demoted.
    pub action: Action,
    /// For the others.
    pub unasked: Unasked,
    /// For streams that have begun.
    pub mid_stream: MidStream,
}

/// Attempts after a failure.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Further attempts, inside the deadline.
    pub max: u32,
    /// An SDK's own retry joins a call that runs or finished this recently.
    pub join: Period,
    /// A call whose caller vanished is kept this long for that retry.
    pub keep: Period,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max: 1,
            join: Period::from_secs(10),
            keep: Period::from_secs(0),
        }
    }
}

/// Jobs of one route.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteCold {
    /// A job older than this fails as expired.
    pub deadline: Period,
    /// Calls to providers for one job.
    pub max_attempts: u32,
    /// Running jobs of this route on this gateway.
    pub concurrency: usize,
    /// First back-off between two attempts; doubles, with full jitter, up to `backoff_max`.
    pub backoff: Period,
    /// Longest back-off between two attempts.
    pub backoff_max: Period,
}

impl Default for RouteCold {
    fn default() -> Self {
        Self {
            deadline: Period::from_secs(15 * 60),
            max_attempts: 5,
            concurrency: 32,
            backoff: Period::from_secs(1),
            backoff_max: Period::from_secs(60),
        }
    }
}
