//! Whether the files and folders of a gateway are there where it is to run.
//!
//! Promises: reads nothing of them and makes none.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::config::{ClientCertificate, Config, ListenTls, PostgresAddress, SslMode};

/// Why a gateway would not start here for want of a file or a folder: the key and a sentence, one each.
pub fn missing(config: &Config) -> Vec<String> {
    let read = read(config)
        .into_iter()
        .filter_map(|(key, path)| unread(&key, &path));
    let written = written(config).filter_map(|(key, path)| homeless(key, path));
    read.chain(written).collect()
}

type Named = (String, PathBuf);

/// Files that are read.
fn read(config: &Config) -> Vec<Named> {
    let mut all = Vec::new();
    let listen = &config.listen;
    for (key, tls) in [
        ("listen.tls", &listen.tls),
        ("listen.admin_tls", &listen.admin_tls),
    ] {
        all.extend(tls.iter().flat_map(|tls| of_listener(key, tls)));
    }
    for (name, provider) in &config.providers {
        let (ca, own) = (&provider.ca, &provider.client_cert);
        all.extend(of_client(
            &format!("providers.{name}"),
            ca.as_ref(),
            own.as_ref(),
        ));
    }
    all.extend(of_store(&config.cold.store));
    let traces = &config.traces;
    if traces.endpoint.is_some() {
        all.extend(of_client(
            "traces",
            traces.ca.as_ref(),
            traces.client_cert.as_ref(),
        ));
    }
    all
}

fn of_listener(key: &str, tls: &ListenTls) -> Vec<Named> {
    let all = [
        ("cert", Some(&tls.cert)),
        ("key", Some(&tls.key)),
        ("client_ca", tls.client_ca.as_ref()),
    ];
    named(key, all)
}

fn of_client(key: &str, ca: Option<&PathBuf>, own: Option<&ClientCertificate>) -> Vec<Named> {
    let all = [
        ("ca", ca),
        ("client_cert.cert", own.map(|own| &own.cert)),
        ("client_cert.key", own.map(|own| &own.key)),
    ];
    named(key, all)
}

fn named<const ALL: usize>(key: &str, all: [(&str, Option<&PathBuf>); ALL]) -> Vec<Named> {
    let given = all.map(|(name, path)| Some((format!("{key}.{name}"), path?.clone())));
    given.into_iter().flatten().collect()
}

/// Roots of a store's server, where they are asked for.
fn of_store(store: &str) -> Option<Named> {
    let address = PostgresAddress::parse(store).ok()?;
    let root = address.root.filter(|_| address.tls == SslMode::Verify)?;
    Some(("cold.store".to_owned(), root))
}

/// Files that are made where they are not there, in folders that must be.
fn written(config: &Config) -> impl Iterator<Item = (&'static str, &Path)> {
    let store = config.cold.store.strip_prefix("sqlite:").map(Path::new);
    let log = config.access_log.file.as_deref();
    [("cold.store", store), ("access_log.file", log)]
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?)))
}

fn unread(key: &str, path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Some(format!("{key}: {shown} is a folder, not a file")),
        // A pipe would wait for who writes it.
        Ok(found) if !found.is_file() => None,
        found => {
            let why = found.and_then(|_| File::open(path)).err()?;
            Some(format!("{key}: {shown} cannot be read: {why}"))
        }
    }
}

fn homeless(key: &str, path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""))?;
    if folder.is_dir() {
        return None;
    }
    let folder = folder.display();
    Some(format!(
        "{key}: the folder {folder} is not there; make it, or name another"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::keys_of;
    use super::*;
    use crate::config::parse;

    #[test]
    fn every_file_and_folder_that_is_not_there_is_told_and_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display();
        let text = |at: &str| {
            format!(
                r#"
[listen.tls]
cert = "{at}/cert.pem"
key = "{at}/key.pem"
client_ca = "{at}/ca.pem"
[providers.a]
base_url = "https://a.example"
ca = "{at}/ca.pem"
client_cert = {{ cert = "{at}/cert.pem", key = "{at}/key.pem" }}
[traces]
endpoint = "https://127.0.0.1:4317"
ca = "{at}/ca.pem"
[access_log]
format = "json"
file = "{at}/calls.log"
[cold]
store = "sqlite:{at}/jobs.db"
"#
            )
        };
        let told = missing(&parse(&text(&format!("{here}/away")), "f").unwrap());
        assert_eq!(
            keys_of(&told),
            [
                "listen.tls.cert",
                "listen.tls.key",
                "listen.tls.client_ca",
                "providers.a.ca",
                "providers.a.client_cert.cert",
                "providers.a.client_cert.key",
                "traces.ca",
                "cold.store",
                "access_log.file",
            ],
            "{told:?}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for name in ["cert.pem", "key.pem", "ca.pem"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let there = parse(&text(&here.to_string()), "f").unwrap();
        assert_eq!(missing(&there), Vec::<String>::new());
        // As a container has it whose mount is missing.
        fs::remove_file(folder.path().join("key.pem")).unwrap();
        fs::create_dir(folder.path().join("key.pem")).unwrap();
        let told = missing(&there);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told.iter()
                .all(|one| one.ends_with("is a folder, not a file"))
        );
    }

    #[test]
    fn the_roots_of_a_stores_server_are_looked_for_where_they_are_asked_for() {
        for (mode, count) in [("verify-full", 1), ("prefer", 0)] {
            let text = format!(
                "[cold]\nstore = \"postgres://me@db/jobs?sslmode={mode}&sslrootcert=/no/root.pem\"\n\
                 [providers.a]\nbase_url = \"https://a.example\"\n"
            );
            let told = missing(&parse(&text, "f").unwrap());
            assert_eq!(told.len(), count, "{mode}: {told:?}");
            assert!(
                told.iter()
                    .all(|one| one.starts_with("cold.store: /no/root.pem cannot be read"))
            );
        }
    }

    #[test]
    fn a_file_beside_the_configuration_and_a_store_on_a_server_need_no_folder() {
        for store in ["sqlite:jobs.db", "postgres://me@db/jobs"] {
            let text = format!(
                "[cold]\nstore = \"{store}\"\n[providers.a]\nbase_url = \"https://a.example\"\n"
            );
            let config = parse(&text, "f").unwrap();
            assert_eq!(missing(&config), Vec::<String>::new(), "{store}");
        }
    }
}
