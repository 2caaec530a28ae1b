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

/// Why a reload would leave the operators' listener open; `None`: it does not. Its address and token are
/// those of the start, and what its callers must show is that of the file.
pub(super) fn opens(started: &Config, now: &Config) -> Option<&'static str> {
    let guarded_by_token = started.auth.admin_token.is_some();
    let mutual = &now.listen.admin_tls;
    let mutual = mutual.as_ref().is_none_or(|tls| tls.client_ca.is_some());
    let why = "listen.admin_tls.client_ca: is all that guards the admin listener, which was started off \
               loopback and without a token: it can be taken away only by a restart";
    (!started.listen.admin.ip().is_loopback() && !guarded_by_token && !mutual).then_some(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn a_reload_does_not_open_the_operators_listener() {
        let provider = "[providers.a]\nbase_url = \"https://a.example\"\n";
        let read = |admin: &str, tls: &str, token: &str| {
            let listen = format!("[listen]\nadmin = \"{admin}:8081\"\n{tls}\n{token}\n");
            parse(&format!("{listen}{provider}"), "f").unwrap()
        };
        let token = "[auth]\nadmin_token = { env = \"T\" }";
        let mutual = "admin_tls = { cert = \"c\", key = \"k\", client_ca = \"o\" }";
        let plain = "admin_tls = { cert = \"c\", key = \"k\" }";
        let open = |started: &Config, now: &Config| opens(started, now).is_some();

        let started = read("0.0.0.0", mutual, "");
        assert!(open(&started, &read("0.0.0.0", plain, token)));
        assert!(open(&started, &read("127.0.0.1", plain, "")));
        // It stays as it was until a restart, and so does what guards it.
        assert!(!open(&started, &read("0.0.0.0", "", token)));
        assert!(!open(&started, &read("0.0.0.0", mutual, token)));
        let started = read("0.0.0.0", mutual, token);
        assert!(!open(&started, &read("0.0.0.0", plain, token)));
        let started = read("127.0.0.1", mutual, "");
        assert!(!open(&started, &read("127.0.0.1", plain, "")));
    }

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
