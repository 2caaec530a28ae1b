//! Who may call.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::SecretSource;

/// Who may call; empty: whoever reaches the listener, with credentials of the provider's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The file of the gateway's own keys, which `shunt keys` writes; each call then needs one.
    pub keys: Option<PathBuf>,
    /// What operators send as `Authorization: Bearer` to the admin listener, 32 characters or more;
    /// needed where that is not on loopback.
    pub admin_token: Option<SecretSource>,
}
