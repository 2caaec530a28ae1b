//! What a reload does not take up: it is said, or an operator would wait for it.

use sha2::{Digest as _, Sha256};

use crate::config::{Callbacks, Cold, Config, Limits, SecretSource, Secrets};

/// What a gateway was started with.
pub(super) struct Started {
    pub config: Config,
    /// Of the secrets that are read only then, whose files may hold others later.
    token: Option<Digest>,
    callbacks: Option<Digest>,
}

type Digest = [u8; 32];

impl Started {
    pub fn with(config: &Config) -> Self {
        Self {
            config: config.clone(),
            token: token(config),
            callbacks: callbacks(&config.callbacks),
        }
    }
}

/// Of secrets; none where one of them cannot be read.
fn digest<'a>(sources: impl Iterator<Item = &'a SecretSource>) -> Option<Digest> {
    let mut all = Sha256::new();
    for source in sources {
        all.update(Sha256::digest(source.read().ok()?.expose()));
    }
    Some(all.finalize().into())
}

fn token(config: &Config) -> Option<Digest> {
    digest(config.auth.admin_token.iter())
}

fn callbacks(callbacks: &Callbacks) -> Option<Digest> {
    let both = [&callbacks.secret, &callbacks.signing_key];
    digest(both.into_iter().flatten().flat_map(Secrets::all))
}

/// Whether a secret is another one now. One that cannot be read is not: nobody needs it any more.
fn differ(then: Option<Digest>, now: Option<Digest>) -> bool {
    now.is_some() && then != now
}

/// Parts of a configuration that changed and stay as they are until the gateway is started anew.
pub(super) fn waits(started: &Started, now: &Config) -> Vec<&'static str> {
    let addresses = |config: &Config| {
        let listen = &config.listen;
        let tls = (listen.tls.is_some(), listen.admin_tls.is_some());
        (listen.public, listen.admin, tls)
    };
    // The margin is in force at once.
    let cold = |config: &Config| Cold {
        margin: now.cold.margin,
        ..config.cold.clone()
    };
    let Started {
        config: then,
        token: old,
        callbacks: signed,
    } = started;
    let parts = [
        ("listen", addresses(then) != addresses(now)),
        (
            "auth.admin_token",
            then.auth.admin_token != now.auth.admin_token || differ(*old, token(now)),
        ),
        ("server", then.server != now.server),
        ("names", then.names != now.names),
        ("cold", cold(then) != cold(now)),
        (
            "callbacks",
            then.callbacks != now.callbacks || differ(*signed, callbacks(&now.callbacks)),
        ),
        ("access_log", then.access_log != now.access_log),
        ("traces", then.traces != now.traces),
    ];
    let parts = parts.into_iter().chain(limits(&then.limits, &now.limits));
    let changed = parts.filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name).collect()
}

/// The same of limits: what holds connections and jobs; the others are in force for the next call.
fn limits(then: &Limits, now: &Limits) -> [(&'static str, bool); 10] {
    let (old, new) = (&then.caller, &now.caller);
    [
        ("limits.answer", then.answer != now.answer),
        ("limits.head", then.head != now.head),
        // Fewer are in force at once; for more the parser has no room.
        ("limits.headers", then.headers < now.headers),
        ("limits.head_timeout", then.head_timeout != now.head_timeout),
        ("limits.connections", then.connections != now.connections),
        ("limits.operators", then.operators != now.operators),
        ("limits.streams", then.streams != now.streams),
        (
            "limits.caller.per_address",
            (old.per_address, &old.uncounted) != (new.per_address, &new.uncounted),
        ),
        ("limits.caller.idle", old.idle != new.idle),
        ("limits.caller.cancels", old.cancels != new.cancels),
    ]
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
        let started = Started::with(&read(""));
        for (text, told) in [
            ("", vec![]),
            ("[limits]\nbody = \"1MiB\"\n", vec![]),
            ("[cold]\nmargin = \"40ms\"\n", vec![]),
            ("[limits]\nheaders = 100\n", vec![]),
            ("[limits]\nheaders = 200\n", vec!["limits.headers"]),
            (
                "[limits.caller]\nbody_idle = \"3s\"\nbody_rate = 1\nupload = \"1MiB\"\n",
                vec![],
            ),
            (
                "[limits]\nanswer = \"1MiB\"\nconnections = 9\noperators = 9\n",
                vec!["limits.answer", "limits.connections", "limits.operators"],
            ),
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

    #[test]
    fn a_secret_s_file_with_new_contents_waits_for_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let (token, secret) = (file("token"), file("secret"));
        let text = format!(
            "[auth]\nadmin_token = {{ file = \"{token}\" }}\n\
             [callbacks]\nsecret = {{ file = \"{secret}\" }}\n\
             [providers.a]\nbase_url = \"https://a.example\"\n"
        );
        let write = |path: &str, text: &str| std::fs::write(path, text).unwrap();
        write(&token, "one");
        write(&secret, "two");
        let config = parse(&text, "f").unwrap();
        let started = Started::with(&config);
        assert_eq!(waits(&started, &config), Vec::<&str>::new());
        write(&token, "another");
        assert_eq!(waits(&started, &config), ["auth.admin_token"]);
        write(&secret, "another");
        assert_eq!(waits(&started, &config), ["auth.admin_token", "callbacks"]);
    }
}
