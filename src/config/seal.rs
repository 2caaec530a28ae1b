//! What a store keeps sealed.

use schemars::JsonSchema;
use serde::Deserialize;

/// What a store keeps sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Seal {
    /// Header lines of requests and answers, and queries: what can hold credentials.
    #[default]
    Credentials,
    /// All that a caller or a provider wrote: bodies, metadata, callback addresses, errors too.
    All,
}
