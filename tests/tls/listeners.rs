//! TLS of the listeners: versions, protocols, tickets, certificates that are
//! replaced, and those of callers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::{CertificateDer, ServerName};
use shunt::server::Server;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Issued};

/// A gateway whose certificate stands in files that a test replaces.
struct House {
    folder: TempDir,
    runtime: Runtime,
    gateway: Server,
    text: String,
}

impl House {
    /// `listener` is `tls` or `admin_tls`; `further` stands in its table.
    fn new(listener: &str, shown: &Issued, further: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = files(folder.path());
        shown.copy(&cert, &key);
        let text = format!(
            "[server]\nworkers = 1\ndrain = \"1s\"\n[cold]\nstore = \"sqlite:{}/jobs.db\"\n\
             [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             {listener} = {{ cert = \"{}\", key = \"{}\"{further} }}\n\
             [providers.p]\nbase_url = \"http://127.0.0.1:9\"\nwarm_connections = 0\n",
            folder.path().display(),
            cert.display(),
            key.display(),
        );
        let config = shunt::config::parse(&text, "tls.toml").expect("a configuration");
        Self {
            folder,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            gateway: Server::start(&config).expect("a gateway"),
            text,
        }
    }

    fn shows(&self, issued: &Issued) {
        let (cert, key) = files(self.folder.path());
        issued.copy(&cert, &key);
    }

    fn reload(&self) -> anyhow::Result<()> {
        let config = shunt::config::parse(&self.text, "tls.toml").expect("a configuration");
        self.gateway.reload(&config)
    }

    fn reloads(&self, result: &str) -> u64 {
        self.gateway.counter_sum("shunt_tls_reloads_total", result)
    }

    /// Waits until so many handshakes were counted as failed: they are after the caller knows.
    fn refused(&self, count: u64) {
        let end = Instant::now() + Duration::from_secs(5);
        let name = "shunt_tls_handshakes_failed_total";
        while self.gateway.counter_sum(name, "listener") != count {
            assert!(
                Instant::now() < end,
                "{}",
                self.gateway.counter_sum(name, "listener")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) {
        assert_eq!(self.gateway.drain(), 0);
    }
}

fn files(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("cert.pem"), folder.join("key.pem"))
}

async fn open(at: SocketAddr, client: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let connecting = TlsConnector::from(client.clone()).connect(name, stream);
    tokio::time::timeout(Duration::from_secs(5), connecting).await?
}

/// Asks for a page and gives the answer's first line; the connection stays open.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains("\r\n\r\n") {
            let count = stream.read_buf(&mut read).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        // What follows belongs to this answer: the next read begins with the next one.
        let head = String::from_utf8_lossy(&read).to_ascii_lowercase();
        let told = head.split("content-length: ").nth(1);
        let told = told.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let whole: usize = head.find("\r\n\r\n").expect("a head") + 4 + told.unwrap_or(0);
        while read.len() < whole {
            stream.read_buf(&mut read).await?;
        }
        std::io::Result::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(5), reading).await??;
    let text = String::from_utf8_lossy(&read);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().expect("a chain");
    chain[0].clone().into_owned()
}

const NONE: &str = "HTTP/1.1 404 Not Found";

#[test]
fn open_connections_go_on_over_a_reload_and_new_ones_meet_the_new_certificate() {
    let authority = Authority::new("roots");
    let (old, new) = (
        authority.issue("localhost"),
        authority.issue_until("localhost", 2097),
    );
    let house = House::new("tls", &old, "");
    let client = Arc::new(authority.client(None, &[b"http/1.1"]));
    house.runtime.block_on(async {
        let at = house.gateway.public;
        let mut before = open(at, &client).await.expect("TLS");
        assert_eq!(ask(&mut before, "/x").await.expect("an answer"), NONE);
        assert_eq!(shown(&before), old.der());

        house.shows(&new);
        house.reload().expect("a reload");
        assert_eq!(ask(&mut before, "/x").await.expect("an answer"), NONE);
        // This client holds tickets of the old certificate: they are worth nothing any more.
        let mut after = open(at, &client).await.expect("TLS");
        assert_eq!(
            after.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Full)
        );
        assert_eq!(shown(&after), new.der());
        assert_eq!(ask(&mut after, "/x").await.expect("an answer"), NONE);
    });
    assert_eq!(house.reloads("\"ok\""), 1);
    assert_eq!(house.reloads("\"failed\""), 0);
    // 2098-01-01.
    let expiry = "shunt_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(house.gateway.counter_sum(expiry, "public"), 4_039_372_800);
    house.end();
}

#[test]
fn files_that_cannot_be_used_leave_the_old_certificate_in_force() {
    let authority = Authority::new("roots");
    let old = authority.issue("localhost");
    let house = House::new("tls", &old, "");
    let (cert, key) = files(house.folder.path());
    let expired = authority.issue_until("localhost", 2020);
    let stranger = authority.issue_until("localhost", 2090);
    let client = Arc::new(authority.client(None, &[]));
    let bad: [(&str, &dyn Fn()); 5] = [
        ("no certificate", &|| {
            std::fs::write(&cert, "nothing").expect("a file");
        }),
        ("cert.pem", &|| std::fs::remove_file(&cert).expect("a file")),
        ("has expired", &|| expired.copy(&cert, &key)),
        // A key that comes before its certificate does.
        ("key.pem", &|| {
            old.copy(&cert, &key);
            std::fs::copy(&stranger.key, &key).expect("a file");
        }),
        ("key.pem", &|| {
            std::fs::write(&key, "nothing").expect("a file");
        }),
    ];
    let count = bad.len();
    for (said, spoil) in bad {
        house.shows(&old);
        spoil();
        let why = house.reload().expect_err("a bad file").to_string();
        assert!(why.contains(said), "{why}");
        house.runtime.block_on(async {
            let mut stream = open(house.gateway.public, &client).await.expect("TLS");
            assert_eq!(ask(&mut stream, "/x").await.expect("an answer"), NONE);
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Full) {
                assert_eq!(shown(&stream), old.der());
            }
        });
    }
    assert_eq!(house.reloads("\"failed\""), count as u64);
    assert_eq!(house.reloads("\"ok\""), 0);
    assert_eq!(
        house
            .gateway
            .counter_sum("shunt_config_reloads_total", "failed"),
        count as u64
    );
    house.end();
}

#[test]
fn sessions_are_resumed_in_both_versions() {
    let authority = Authority::new("roots");
    let house = House::new("tls", &authority.issue("localhost"), "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Arc::new(only(version, &authority));
        house.runtime.block_on(async {
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut stream = open(house.gateway.public, &client).await.expect("TLS");
                assert_eq!(ask(&mut stream, "/x").await.expect("an answer"), NONE);
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
            }
        });
    }
    house.end();
}

fn only(version: &'static rustls::SupportedProtocolVersion, authority: &Authority) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let root = rustls_pki_types::pem::PemObject::from_pem_file(&authority.root);
    roots.add(root.expect("pem")).expect("a root");
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The first message of a client whose newest version is this one (RFC 4346 7.4.1.2), with
/// extensions.
fn hello(minor: u8, extensions: &[u8]) -> Vec<u8> {
    // TLS_RSA_WITH_AES_128_CBC_SHA and its ECDHE form, no compression.
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0x00, 0x2f, 0xc0, 0x13, 1, 0]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).expect("a short message");
    let mut message = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    message.extend(body);
    message
}

/// `signature_algorithms` with `rsa_pkcs1_sha256`: without it a hello is refused for its want.
const SIGNATURES: &[u8] = &[0, 8, 0, 13, 0, 4, 0, 2, 4, 1];

/// What is sent back to some bytes until the connection is closed.
async fn reply(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).await.expect("the gateway");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let waited = tokio::time::timeout(Duration::from_secs(5), reading).await;
    waited.expect("an end").expect("a connection");
    answer
}

#[test]
fn versions_before_1_2_are_refused_with_a_fatal_alert() {
    let authority = Authority::new("roots");
    let house = House::new("tls", &authority.issue("localhost"), "");
    for minor in [0, 1, 2] {
        // RFC 8446 6: handshake_failure and protocol_version.
        for (extensions, alert) in [(&[][..], 40), (SIGNATURES, 70)] {
            let hello = hello(minor, extensions);
            let answer = house.runtime.block_on(reply(house.gateway.public, &hello));
            assert_eq!(answer.first(), Some(&21), "{answer:?}");
            assert_eq!(answer[5..], [2, alert], "{answer:?}");
        }
    }
    let cleartext = reply(house.gateway.public, b"GET / HTTP/1.1\r\n\r\n");
    let answer = house.runtime.block_on(cleartext);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    house.refused(7);
    house.end();
}

#[test]
fn a_client_that_is_held_down_to_1_2_can_see_it() {
    let authority = Authority::new("roots");
    let house = House::new("tls", &authority.issue("localhost"), "");
    let client = Arc::new(only(&rustls::version::TLS12, &authority));
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = rustls::ClientConnection::new(client, name).expect("a client");
    let mut said = Vec::new();
    client.write_tls(&mut said).expect("a hello");
    house.runtime.block_on(async {
        let mut stream = TcpStream::connect(house.gateway.public)
            .await
            .expect("the gateway");
        stream.write_all(&said).await.expect("sent");
        let mut answer = [0; 43];
        stream.read_exact(&mut answer).await.expect("an answer");
        // The last bytes of the server's random (RFC 8446 4.1.3).
        assert_eq!(&answer[35..], b"DOWNGRD\x01");
    });
    house.end();
}

#[test]
fn a_protocol_is_chosen_from_those_offered_or_the_handshake_fails() {
    let authority = Authority::new("roots");
    let house = House::new("tls", &authority.issue("localhost"), "");
    let with = |alpn: &[&[u8]]| Arc::new(authority.client(None, alpn));
    house.runtime.block_on(async {
        let at = house.gateway.public;
        let chosen = |stream: &TlsStream<TcpStream>| {
            let alpn = stream.get_ref().1.alpn_protocol();
            alpn.map(|name| String::from_utf8_lossy(name).into_owned())
        };
        // The server's order decides (RFC 7301 3.2).
        let both = open(at, &with(&[b"http/1.1", b"h2"])).await.expect("TLS");
        assert_eq!(chosen(&both).as_deref(), Some("h2"));
        let old = open(at, &with(&[b"http/1.1"])).await.expect("TLS");
        assert_eq!(chosen(&old).as_deref(), Some("http/1.1"));
        let mut none = open(at, &with(&[])).await.expect("TLS");
        assert_eq!(chosen(&none), None);
        assert_eq!(ask(&mut none, "/x").await.expect("an answer"), NONE);
        let other = open(at, &with(&[b"spdy/3"]))
            .await
            .expect_err("no protocol");
        assert!(
            other.to_string().contains("NoApplicationProtocol"),
            "{other}"
        );
    });
    house.end();
}

#[test]
fn operators_get_in_only_with_a_certificate_of_the_configured_root() {
    let authority = Authority::new("operators");
    let (strangers, server) = (Authority::new("operators"), authority.issue("localhost"));
    let root = format!(", client_ca = \"{}\"", authority.root.display());
    let house = House::new("admin_tls", &server, &root);
    let at = house.gateway.admin;
    assert!(house.gateway.admin_url().starts_with("https://"));
    let operator = authority.issue("operator");
    let attempt = |shown: Option<&Issued>| {
        let client = Arc::new(authority.client(shown, &[b"http/1.1"]));
        house.runtime.block_on(async {
            // In TLS 1.3 a client learns only afterwards that its certificate was refused.
            let mut stream = open(at, &client).await?;
            ask(&mut stream, "/healthz").await
        })
    };
    // Somebody who says nothing holds up nobody.
    let _silent = std::net::TcpStream::connect(at).expect("the gateway");
    for _ in 0..2 {
        assert_eq!(
            attempt(Some(&operator)).expect("an answer"),
            "HTTP/1.1 200 OK"
        );
    }
    for (shown, said) in [
        (None, "CertificateRequired"),
        (Some(strangers.issue("operator")), ""),
        (
            Some(authority.issue_until("operator", 2020)),
            "CertificateExpired",
        ),
    ] {
        let why = attempt(shown.as_ref()).expect_err("refused").to_string();
        assert!(why.contains(said), "{why}");
    }
    let answer = house
        .runtime
        .block_on(reply(at, b"GET /healthz HTTP/1.1\r\n\r\n"));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    house.refused(4);
    house.end();
}
