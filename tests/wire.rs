//! What passes on the wire: TLS and HTTP/2 on both sides, trailers both ways, early answers.

use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use shunt::server::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Frames =
    StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn frames(data: &[&'static str], trailers: &[(&'static str, &'static str)]) -> Frames {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        map.insert(*name, value.parse().expect("a header value"));
    }
    let data = data
        .iter()
        .map(|part| Frame::data(Bytes::from_static(part.as_bytes())));
    let all: Vec<_> = data.chain([Frame::trailers(map)]).map(Ok).collect();
    StreamBody::new(futures_util::stream::iter(all))
}

/// A certificate for `localhost`, as `cert.pem` and `key.pem`.
fn certify(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("a file");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("a file");
}

fn start(folder: &Path, further: &str) -> Server {
    let text = format!(
        "[server]\nworkers = 1\ndrain = \"1s\"\n[cold]\nstore = \"sqlite:{}/jobs.db\"\n\
         [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{further}",
        folder.display()
    );
    let config = shunt::config::parse(&text, "wire.toml").expect("a configuration");
    Server::start(&config).expect("a gateway")
}

/// Answers a stream with trailers over HTTP/2 and TLS, and tells the caller's trailers.
async fn provide(listener: TcpListener, acceptor: TlsAcceptor) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request: Request<Incoming>| async move {
                let version = format!("{:?}", request.version());
                let sent = request.into_body().collect().await.expect("a whole body");
                let told = sent.trailers().and_then(|map| map.get("x-sum")).cloned();

                Response::builder()
                    .header("x-version", version)
                    .header(
                        "x-told",
                        told.unwrap_or_else(|| "nothing".parse().expect("ascii")),
                    )
                    .body(frames(&["one ", "two"], &[("x-end", "reached")]))
            });
            let _ = server::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_no_client_auth()
    .with_single_cert(
        vec![
            rustls_pki_types::CertificateDer::from_pem_file(folder.join("cert.pem")).expect("pem"),
        ],
        rustls_pki_types::PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("pem"),
    )
    .expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn connector(folder: &Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    let pem = rustls_pki_types::CertificateDer::from_pem_file(folder.join("cert.pem"));
    roots.add(pem.expect("pem")).expect("a root");
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_root_certificates(roots)
    .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn http2_over_tls_passes_on_both_sides_with_its_trailers() {
    let folder = tempfile::tempdir().expect("a folder");
    certify(folder.path());
    let runtime = runtime();
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut tasks = JoinSet::new();
    tasks.spawn_on(provide(listener, acceptor(folder.path())), runtime.handle());
    let at = folder.path().display();
    let gateway = start(
        folder.path(),
        &format!(
            "tls = {{ cert = \"{at}/cert.pem\", key = \"{at}/key.pem\" }}\n\
             [providers.p]\nbase_url = \"https://localhost:{port}\"\ndialect = \"plain\"\n\
             ca = \"{at}/cert.pem\"\n"
        ),
    );
    runtime.block_on(async {
        let stream = TcpStream::connect(gateway.public)
            .await
            .expect("the gateway");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector(folder.path())
            .connect(name, stream)
            .await
            .expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, driver) = client::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        let mut drivers = JoinSet::new();
        drivers.spawn(driver);
        let request = Request::post("https://localhost/p/stream")
            .header("te", "trailers")
            .body(frames(&["abc"], &[("x-sum", "3")]))
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.version(), Version::HTTP_2);
        assert_eq!(answer.headers()["x-version"], "HTTP/2.0");
        assert_eq!(answer.headers()["x-told"], "3");
        let whole = answer.into_body().collect().await.expect("a whole answer");
        assert_eq!(whole.trailers().expect("trailers")["x-end"], "reached");
        assert_eq!(whole.to_bytes(), "one two");
    });
    assert_eq!(gateway.drain(), 0);
}

/// Reads until the text is there, for ten seconds at most.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(wanted) {
            let mut chunk = [0; 4_096];
            let count = stream.read(&mut chunk).await.expect("a connection");
            assert!(count > 0, "closed after {}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&chunk[..count]);
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), reading).await;
    assert!(waited.is_ok(), "`{wanted}` did not come");
    String::from_utf8_lossy(&read).into_owned()
}

/// Runs a call between a provider on a bare socket and a caller of a `plain` route to it.
fn between<F: Future<Output = ()>>(call: impl FnOnce(TcpListener, TcpStream) -> F) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let further = format!(
        "[providers.p]\nbase_url = \"http://127.0.0.1:{port}\"\ndialect = \"plain\"\n\
         warm_connections = 0\n"
    );
    let gateway = start(folder.path(), &further);
    runtime.block_on(async {
        let caller = TcpStream::connect(gateway.public);
        call(listener, caller.await.expect("the gateway")).await;
    });
    assert_eq!(gateway.drain(), 0);
}

#[test]
fn an_answer_that_comes_while_the_body_is_still_sent_reaches_the_caller() {
    between(|listener, mut caller| async move {
        caller
            .write_all(
                b"POST /p/upload HTTP/1.1\r\nhost: x\r\ncontent-type: video/mp4\r\n\
                  content-length: 1000000\r\n\r\nthe beginning",
            )
            .await
            .expect("sent");
        let (mut provider, _) = listener.accept().await.expect("the gateway's call");
        read_until(&mut provider, "the beginning").await;
        provider
            .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo long")
            .await
            .expect("answered");
        let answer = read_until(&mut caller, "too long").await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    });
}

#[test]
fn trailers_of_a_chunked_answer_reach_an_http1_caller() {
    between(|listener, mut caller| async move {
        caller
            .write_all(b"GET /p/x HTTP/1.1\r\nhost: x\r\nte: trailers\r\n\r\n")
            .await
            .expect("sent");
        let (mut provider, _) = listener.accept().await.expect("the gateway's call");
        let asked = read_until(&mut provider, "\r\n\r\n").await;
        assert!(asked.contains("te: trailers"), "{asked}");
        provider
            .write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n\
                  3\r\nabc\r\n0\r\nx-end: reached\r\n\r\n",
            )
            .await
            .expect("answered");
        let answer = read_until(&mut caller, "x-end: reached").await;
        assert!(answer.contains("abc"), "{answer}");
    });
}
