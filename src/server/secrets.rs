//! Whether a gateway has its secrets where it is to run.
//!
//! Promises: shows no secret; makes no file, opens no socket.

use crate::auth::file::KeyFile;
use crate::auth::{Keys, Token};
use crate::cold::seal::Sealer;
use crate::config::{Callbacks, Config, SecretSource, is_postgres};

use super::build::{SEAL_KEYS, signer};

/// Why a gateway would not start here for want of a secret: the key and a sentence, one each.
pub(super) fn missing(config: &Config) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut look = |key: &str, read: Result<(), String>| {
        all.extend(read.err().map(|why| format!("{key}: {why}")));
    };
    let of = |source: &SecretSource| source.read().map(drop);
    if let Some(path) = &config.auth.keys {
        look("auth.keys", Keys::read(path).map(drop));
    }
    if let Some(source) = &config.auth.admin_token {
        look("auth.admin_token", Token::read(source).map(drop));
    }
    for (name, provider) in &config.providers {
        if let Some(source) = &provider.api_key {
            look(&format!("providers.{name}.api_key"), of(source));
        }
    }
    let cold = &config.cold;
    if is_postgres(&cold.store) {
        let password = cold.postgres.read_password().map(drop);
        look("cold.postgres.password", password);
    }
    let variable = cold.seal_keys_env.as_deref();
    if let Some(variable) = variable.or(is_postgres(&cold.store).then_some(SEAL_KEYS)) {
        let read = Sealer::from_environment(variable).map(drop);
        look("cold.seal_keys_env", read);
    }
    // Nothing is read of them where no traces are told.
    for (name, source) in &config.traces.headers {
        if config.traces.endpoint.is_some() {
            look(&format!("traces.headers.{name}"), of(source));
        }
    }
    all.extend(callbacks(&config.callbacks));
    all
}

/// Which of the gateway's keys may call routes that are not there: the key of the configuration and a
/// sentence, one each.
pub fn astray(config: &Config) -> Vec<String> {
    let read = config.auth.keys.as_ref().map(|path| KeyFile::read(path));
    let Some(Ok(file)) = read else {
        return Vec::new();
    };
    let routes = config.routes.iter().map(|route| &*route.name);
    // Each provider has a built-in route of its name.
    let names: Vec<_> = routes
        .chain(config.providers.keys().map(String::as_str))
        .collect();
    let told = file.astray(&names).into_iter();
    told.map(|why| format!("auth.keys: {why}")).collect()
}

/// Each kind of them alone, so that both are told.
fn callbacks(callbacks: &Callbacks) -> impl Iterator<Item = String> {
    let (secret, signing_key) = (callbacks.secret.clone(), callbacks.signing_key.clone());
    let alone = [(secret, None), (None, signing_key)];
    alone.into_iter().filter_map(|(secret, signing_key)| {
        let one = Callbacks {
            secret,
            signing_key,
            ..Callbacks::default()
        };
        signer(&one).err().map(|why| why.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::keys_of;
    use super::*;
    use crate::config::parse;

    #[test]
    fn every_secret_that_is_missing_or_too_short_is_told_and_none_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let short = folder.path().join("short");
        std::fs::write(&short, "very-secret").unwrap();
        let short = short.display();
        let text = format!(
            r#"
[auth]
keys = "{0}/keys.toml"
admin_token = {{ file = "{short}" }}
[providers.a]
base_url = "https://a.example"
api_key = {{ env = "SHUNT_TEST_NOT_SET" }}
[providers.b]
base_url = "https://b.example"
api_key = {{ file = "{short}" }}
[cold]
store = "postgres://me@db/jobs"
seal_keys_env = "SHUNT_TEST_NO_KEYS"
postgres = {{ password = {{ env = "SHUNT_TEST_NOT_SET" }} }}
[callbacks]
secret = {{ file = "{short}" }}
signing_key = [{{ env = "SHUNT_TEST_NOT_SET" }}]
[traces]
endpoint = "http://127.0.0.1:4317"
headers = {{ x-key = {{ env = "SHUNT_TEST_NOT_SET" }} }}
"#,
            folder.path().display()
        );
        let told = missing(&parse(&text, "f").unwrap());
        assert_eq!(
            keys_of(&told),
            [
                "auth.keys",
                "auth.admin_token",
                "providers.a.api_key",
                "cold.postgres.password",
                "cold.seal_keys_env",
                "traces.headers.x-key",
                "callbacks.secret",
                "callbacks.signing_key",
            ]
        );
        assert!(
            told.iter().all(|one| !one.contains("very-secret")),
            "{told:?}"
        );
        assert!(
            told[2].contains("SHUNT_TEST_NOT_SET is not set"),
            "{told:?}"
        );
        let plain = "[providers.a]\nbase_url = \"https://a.example\"\n";
        assert_eq!(missing(&parse(plain, "f").unwrap()), Vec::<String>::new());
    }
}
