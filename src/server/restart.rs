//! What a reload does not take up: it is said, or an operator would wait for it.

use crate::config::{Cold, Config};

/// Parts of a configuration that changed and stay as they are until the gateway is started anew.
pub(super) fn waits(started: &Config, now: &Config) -> Vec<&'static str> {
    let addresses = |config: &Config| {
        let listen = &config.listen;
        let tls = (listen.tls.is_some(), listen.admin_tls.is_some());
        (listen.public, listen.admin, tls)
    };
    // What holds connections; the rest of it is in force for the next call.
    let connections = |config: &Config| {
        let limits = &config.limits;
        let head = (limits.head, limits.head_timeout, limits.headers);
        (head, limits.streams, limits.caller.clone())
    };
    // The margin is in force at once.
    let cold = |config: &Config| Cold {
        margin: started.cold.margin,
        ..config.cold.clone()
    };
    let parts = [
        ("listen", addresses(started) != addresses(now)),
        (
            "auth.admin_token",
            started.auth.admin_token != now.auth.admin_token,
        ),
        ("server", started.server != now.server),
        (
            "limits (those of connections)",
            connections(started) != connections(now),
        ),
        ("names", started.names != now.names),
        ("cold", cold(started) != cold(now)),
        ("callbacks", started.callbacks != now.callbacks),
        ("access_log", started.access_log != now.access_log),
        ("traces", started.traces != now.traces),
    ];
    let changed = parts.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn what_needs_a_restart_is_told_and_what_does_not_is_not() {
        let provider = "[providers.a]\nbase_url = \"https://a.example\"\n";
        let read = |text: &str| parse(&format!("{text}{provider}"), "f").unwrap();
        let started = read("");
        for (text, told) in [
            ("", vec![]),
            ("[limits]\nbody = \"1MiB\"\n", vec![]),
            ("[cold]\nmargin = \"40ms\"\n", vec![]),
            ("[providers.b]\nbase_url = \"https://b.example\"\n", vec![]),
            ("[listen]\npublic = \"127.0.0.1:8099\"\n", vec!["listen"]),
            (
                "[server]\nworkers = 1\n[cold]\nretention = \"1h\"\n",
                vec!["server", "cold"],
            ),
        ] {
            assert_eq!(waits(&started, &read(text)), told, "{text}");
        }
    }
}
