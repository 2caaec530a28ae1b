//! TLS towards providers: who is believed, what is shown, what a reload changes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use shunt::server::Server;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;

/// Providers and a gateway in front of them.
struct House {
    folder: TempDir,
    runtime: Runtime,
    tasks: JoinSet<()>,
    gateway: Option<Server>,
    text: String,
}

/// Tells the `Authorization` that it was called with.
async fn serve(listener: TcpListener, config: ServerConfig) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request: Request<Incoming>| async move {
                let said = request.headers().get("authorization").cloned();
                let said =
                    said.map_or(Bytes::new(), |said| Bytes::copy_from_slice(said.as_bytes()));
                Ok::<_, Infallible>(Response::new(Full::new(said)))
            });
            let served = server::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = served.await;
        });
    }
}

/// Keeps what it is sent, and answers as a server without TLS does.
async fn listen_in(listener: TcpListener, heard: Arc<Mutex<Vec<u8>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut chunk = Vec::with_capacity(4_096);
        let _ = stream.read_buf(&mut chunk).await;
        heard.lock().expect("no panic").extend(chunk);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
    }
}

impl House {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime"),
            tasks: JoinSet::new(),
            gateway: None,
            text: String::new(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bind(&self) -> (TcpListener, u16) {
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    /// A provider with TLS; its port.
    fn provider(&mut self, config: ServerConfig) -> u16 {
        let (listener, port) = self.bind();
        let serving = serve(listener, config);
        self.tasks.spawn_on(serving, self.runtime.handle());
        port
    }

    fn config(&mut self, providers: &str) -> shunt::config::Config {
        self.text = format!(
            "[server]\nworkers = 1\ndrain = \"1s\"\n[cold]\nstore = \"sqlite:{}/jobs.db\"\n\
             [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{providers}",
            self.folder.path().display(),
        );
        shunt::config::parse(&self.text, "tls.toml").expect("a configuration")
    }

    fn start(&mut self, providers: &str) {
        let config = self.config(providers);
        self.gateway = Some(Server::start(&config).expect("a gateway"));
    }

    fn reload(&self) -> anyhow::Result<()> {
        let config = shunt::config::parse(&self.text, "tls.toml").expect("a configuration");
        self.gateway.as_ref().expect("it runs").reload(&config)
    }

    /// Status and body of a call to a provider.
    fn call(&self, provider: &str) -> (u16, String) {
        let at = self.gateway.as_ref().expect("it runs").public;
        let called = async {
            let stream = TcpStream::connect(at).await.expect("the gateway");
            let (mut sender, driver) = client::handshake(TokioIo::new(stream)).await.expect("HTTP");
            let mut drivers = JoinSet::new();
            drivers.spawn(driver);
            let request = Request::get(format!("/{provider}/x"))
                .header("host", "gateway")
                .body(Empty::<Bytes>::new())
                .expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.expect("a whole answer");
            (
                status,
                String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            )
        };
        let called = async { tokio::time::timeout(Duration::from_secs(20), called).await };
        self.runtime.block_on(called).expect("an answer in time")
    }

    fn end(self) {
        assert_eq!(self.gateway.expect("it ran").drain(), 0);
    }
}

fn entry(name: &str, port: u16, ca: &Path, further: &str) -> String {
    format!(
        "[providers.{name}]\nbase_url = \"https://localhost:{port}\"\nca = \"{}\"\n\
         warm_connections = 0\n{further}",
        ca.display()
    )
}

#[test]
fn a_provider_that_cannot_prove_its_name_is_not_spoken_to_and_the_caller_learns_why() {
    let (authority, stranger) = (Authority::new("roots"), Authority::new("strangers"));
    let mut house = House::new();
    let fine = house.provider(authority.server(&authority.issue("localhost"), false));
    let renamed = house.provider(authority.server(&authority.issue("other.example"), false));
    let expired = authority.issue_until("localhost", 2020);
    let expired = house.provider(authority.server(&expired, false));
    let unknown = house.provider(stranger.server(&stranger.issue("localhost"), false));
    let (listener, plain) = house.bind();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listening = listen_in(listener, heard.clone());
    house.tasks.spawn_on(listening, house.runtime.handle());
    let root = &authority.root;
    let mut text = String::new();
    for (name, port) in [
        ("fine", fine),
        ("renamed", renamed),
        ("expired", expired),
        ("unknown", unknown),
        ("plain", plain),
    ] {
        text += &entry(name, port, root, "");
    }
    house.start(&text);
    assert_eq!(house.call("fine").0, 200);
    for (name, said) in [
        ("renamed", "not valid for name"),
        ("expired", "expired"),
        ("unknown", "UnknownIssuer"),
        ("plain", "TLS with localhost"),
    ] {
        let (status, body) = house.call(name);
        assert_eq!(status, 502, "{name}: {body}");
        assert!(body.contains("provider_unreachable"), "{name}: {body}");
        assert!(body.contains(said), "{name}: {body}");
    }
    // Whoever answers without TLS heard the beginning of a handshake, and no call.
    let heard = heard.lock().expect("no panic").clone();
    assert_eq!(heard.first(), Some(&22));
    assert!(memchr::memmem::find(&heard, b"HTTP/1.1").is_none());
    house.end();
}

#[test]
fn a_reload_believes_the_roots_that_stand_in_the_file_now_and_sends_the_key_that_does() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let mut house = House::new();
    let port = house.provider(new.server(&new.issue("localhost"), false));
    let (ca, key) = (house.at("ca.pem"), house.at("key"));
    std::fs::copy(&old.root, &ca).expect("a file");
    std::fs::write(&key, "first").expect("a file");
    let further = format!(
        "dialect = \"openai\"\napi_key = {{ file = \"{}\" }}\n",
        key.display()
    );
    let text = entry("p", port, &ca, &further);
    house.start(&text);
    assert_eq!(house.call("p").0, 502);

    std::fs::copy(&new.root, &ca).expect("a file");
    house.reload().expect("a reload");
    assert_eq!(house.call("p"), (200, "Bearer first".into()));

    std::fs::write(&key, "second").expect("a file");
    house.reload().expect("a reload");
    assert_eq!(house.call("p"), (200, "Bearer second".into()));

    // A file that holds nothing of use changes nothing.
    std::fs::write(&ca, "nothing").expect("a file");
    let why = house.reload().expect_err("a bad file").to_string();
    assert!(why.contains("no certificate"), "{why}");
    assert_eq!(house.call("p").0, 200);

    // A connection that was made when the provider was believed serves no call any more.
    std::fs::copy(&old.root, &ca).expect("a file");
    house.reload().expect("a reload");
    assert_eq!(house.call("p").0, 502);
    house.end();
}

#[test]
fn a_provider_that_asks_for_a_certificate_gets_the_configured_one() {
    let authority = Authority::new("roots");
    let mut house = House::new();
    let shown = authority.issue("localhost");
    let port = house.provider(authority.server(&shown, true));
    let gateway = authority.issue("gateway");
    let further = format!(
        "client_cert = {{ cert = \"{}\", key = \"{}\" }}\n",
        gateway.cert.display(),
        gateway.key.display()
    );
    let text = entry("with", port, &authority.root, &further)
        + &entry("without", port, &authority.root, "");
    house.start(&text);
    assert_eq!(house.call("with").0, 200);
    let (status, body) = house.call("without");
    assert_eq!(status, 502, "{body}");
    house.end();
}
