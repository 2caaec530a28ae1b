//! Mistakes about who may call and who may operate.

use super::{Found, secret};
use crate::config::Config;

/// Whether only operators get through to the admin listener, wherever it is.
fn admin_is_guarded(config: &Config) -> bool {
    config.auth.admin_token.is_some() || config.listen.admin_is_mutual()
}

pub(super) fn check(config: &Config, found: &mut Found) {
    let auth = &config.auth;
    if !config.listen.admin.ip().is_loopback() && !admin_is_guarded(config) {
        let says = "is not on loopback, where whoever reaches it can read and cancel jobs; set \
                    auth.admin_token = { env = \"SHUNT_ADMIN_TOKEN\" }, or listen.admin_tls with a \
                    client_ca, or bind 127.0.0.1";
        found.add("listen.admin", says);
    }
    if let Some(source) = &auth.admin_token {
        secret("auth.admin_token", source, found);
    }
    if auth
        .keys
        .as_ref()
        .is_some_and(|path| path.as_os_str().is_empty())
    {
        found.add(
            "auth.keys",
            "is empty; name the file that `shunt keys create` writes",
        );
    }
}
