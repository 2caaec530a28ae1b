//! Whether the files and folders of a gateway are there where it is to run.
//!
//! Promises: makes none, and reads none but certificates and their keys, which are tried as the gateway
//! would use them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::{ClientCertificate, Config, ListenTls, PostgresAddress, SslMode};
use crate::listen::{Certificate, Validity};
use crate::upstream::tls::Roots;

/// Why a gateway would not start here for want of a file or a folder, or of a certificate that can be
/// used: the key and a sentence, one each.
pub fn missing(config: &Config) -> Vec<String> {
    let holders = holders(config);
    let certificates = holders.iter().flat_map(|(key, holder)| {
        let files = holder.files(key);
        let unread: Vec<_> = files.iter().filter_map(unread).collect();
        // A pipe would wait for who writes it, and then be empty for the gateway.
        let whole = unread.is_empty() && files.iter().all(|(_, path)| path.is_file());
        let tried = whole && !files.is_empty();
        let unusable = tried.then(|| holder.try_them().err()).flatten();
        let unusable = unusable.map(|why| format!("{key}: {why}"));
        unread.into_iter().chain(unusable)
    });
    let written = written(config).filter_map(|(key, path)| homeless(key, path));
    certificates.chain(written).collect()
}

/// The gateway's own certificates that do not hold now: the key and a sentence, one each. It would start
/// with them, but nobody would talk with it.
pub fn expired(config: &Config) -> Vec<String> {
    let holders = holders(config);
    let own = holders.iter().filter_map(|(key, holder)| holder.own(key));
    let told = own.filter_map(|(key, path)| {
        // A pipe would wait for who writes it, and then be empty for the gateway.
        let leaf = path.is_file().then(|| CertificateDer::from_pem_file(&path));
        let leaf = leaf?.ok()?;
        let why = Validity::of(&leaf)?.holds().err()?;
        Some(format!("{key}: {} {why}", path.display()))
    });
    told.collect()
}

type Named = (String, PathBuf);

/// What has certificates: a listener, a client with roots and perhaps one of its own, or a store with
/// the roots of its server.
enum Holder<'a> {
    Listener(&'a ListenTls),
    Client(Option<&'a PathBuf>, Option<&'a ClientCertificate>),
    Store(PathBuf),
}

fn holders(config: &Config) -> Vec<(String, Holder<'_>)> {
    let (listen, traces) = (&config.listen, &config.traces);
    let listeners = [
        ("listen.tls", &listen.tls),
        ("listen.admin_tls", &listen.admin_tls),
    ];
    let listeners = listeners
        .into_iter()
        .filter_map(|(key, tls)| Some((key.to_owned(), Holder::Listener(tls.as_ref()?))));
    let providers = config.providers.iter().map(|(name, provider)| {
        let (ca, own) = (provider.ca.as_ref(), provider.client_cert.as_ref());
        (format!("providers.{name}"), Holder::Client(ca, own))
    });
    let traces = traces.endpoint.is_some().then(|| {
        let (ca, own) = (traces.ca.as_ref(), traces.client_cert.as_ref());
        ("traces".to_owned(), Holder::Client(ca, own))
    });
    let store =
        root_of(&config.cold.store).map(|root| ("cold.store".to_owned(), Holder::Store(root)));
    let all = listeners.chain(providers).chain(traces).chain(store);
    all.collect()
}

impl Holder<'_> {
    fn files(&self, key: &str) -> Vec<Named> {
        match self {
            Self::Listener(tls) => named(
                key,
                [
                    ("cert", Some(&tls.cert)),
                    ("key", Some(&tls.key)),
                    ("client_ca", tls.client_ca.as_ref()),
                ],
            ),
            Self::Client(ca, own) => named(
                key,
                [
                    ("ca", *ca),
                    ("client_cert.cert", own.map(|own| &own.cert)),
                    ("client_cert.key", own.map(|own| &own.key)),
                ],
            ),
            Self::Store(root) => vec![(key.to_owned(), root.clone())],
        }
    }

    /// The certificate that it shows to others.
    fn own(&self, key: &str) -> Option<Named> {
        let (name, path) = match self {
            Self::Listener(tls) => ("cert", &tls.cert),
            Self::Client(_, own) => ("client_cert.cert", &own.as_ref()?.cert),
            Self::Store(_) => return None,
        };
        Some((format!("{key}.{name}"), path.clone()))
    }

    /// Whether the gateway could begin with them.
    fn try_them(&self) -> Result<(), String> {
        match self {
            Self::Listener(tls) => Certificate::try_files(tls),
            Self::Client(ca, own) => {
                let made = Roots::none().client(ca.map(PathBuf::as_path), *own, &[]);
                made.map(|_| ())
            }
            Self::Store(root) => Roots::none().client(Some(root), None, &[]).map(|_| ()),
        }
    }
}

fn named<const ALL: usize>(key: &str, all: [(&str, Option<&PathBuf>); ALL]) -> Vec<Named> {
    let given = all.map(|(name, path)| Some((format!("{key}.{name}"), path?.clone())));
    given.into_iter().flatten().collect()
}

/// Roots of a store's server, where they are asked for.
fn root_of(store: &str) -> Option<PathBuf> {
    let address = PostgresAddress::parse(store).ok()?;
    address.root.filter(|_| address.tls == SslMode::Verify)
}

/// Files that are made where they are not there, in folders that must be.
fn written(config: &Config) -> impl Iterator<Item = (&'static str, &Path)> {
    let store = config.cold.store.strip_prefix("sqlite:").map(Path::new);
    let log = config.access_log.file.as_deref();
    [("cold.store", store), ("access_log.file", log)]
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?)))
}

/// Of what is no file, as a pipe, nothing is said.
fn unread((key, path): &Named) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Some(format!("{key}: {shown} is a folder, not a file")),
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

    fn self_signed() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

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
        let made = self_signed();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (name, text) in [("cert.pem", &cert), ("key.pem", &key), ("ca.pem", &cert)] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let there = parse(&text(&here.to_string()), "f").unwrap();
        assert_eq!(missing(&there), Vec::<String>::new());
        // What is there but cannot be used, by each who uses it.
        let other = self_signed().signing_key.serialize_pem();
        for (name, text, users) in [
            (
                "key.pem",
                other.as_str(),
                &["listen.tls", "providers.a"][..],
            ),
            (
                "ca.pem",
                "no certificate",
                &["listen.tls", "providers.a", "traces"],
            ),
        ] {
            let path = folder.path().join(name);
            let before = fs::read(&path).unwrap();
            fs::write(&path, text).unwrap();
            let told = missing(&there);
            assert_eq!(keys_of(&told), users, "{told:?}");
            assert!(told.iter().all(|one| one.contains(name)), "{told:?}");
            fs::write(&path, before).unwrap();
        }
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
    fn certificates_of_its_own_that_do_not_hold_now_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for (name, from, until) in [
            ("old", 2001, 2002),
            ("new", 2001, 2999),
            ("early", 2998, 2999),
        ] {
            let mut asked = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
            asked.not_before = rcgen::date_time_ymd(from, 1, 1);
            asked.not_after = rcgen::date_time_ymd(until, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = asked.self_signed(&key).unwrap().pem();
            fs::write(folder.path().join(name), pem).unwrap();
        }
        let here = folder.path().display();
        let text = format!(
            r#"
[listen]
tls = {{ cert = "{here}/old", key = "{here}/key" }}
admin_tls = {{ cert = "{here}/new", key = "{here}/key" }}
[providers.a]
base_url = "https://a.example"
ca = "{here}/old"
client_cert = {{ cert = "{here}/early", key = "{here}/key" }}
"#
        );
        let told = expired(&parse(&text, "f").unwrap());
        assert_eq!(
            told,
            [
                format!("listen.tls.cert: {here}/old has expired"),
                format!("providers.a.client_cert.cert: {here}/early is not valid yet"),
            ]
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
