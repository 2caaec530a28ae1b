//! The address battery: what must never be reached, in every spelling, by URL and by name. The
//! world listens at every address there is and keeps who was reached.

mod addresses;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::addresses::{INSIDE, PUBLIC, URLS};
use super::guard::AddressGuard;
use super::network::{Network, Stream, System};
use super::send::{Post, Reply, SendError, Sender};
use crate::cold::door::Door;
use crate::tasks::Tasks;
use crate::upstream::names::Names;
use crate::upstream::tls::Roots;

const LIMIT: Duration = Duration::from_secs(15);

/// Listens at every address and answers every request with the same bytes.
#[derive(Default)]
pub(super) struct World {
    /// What a name resolves to, each time; the last stays. Other names resolve to a public address.
    pub names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    /// Who was reached.
    pub reached: Mutex<Vec<SocketAddr>>,
    /// Who was asked for.
    pub resolved: Mutex<Vec<String>>,
    /// What came.
    pub heard: Arc<Mutex<Vec<u8>>>,
    /// The answer, and what goes on after it for ever.
    pub answer: (&'static str, &'static str),
}

impl World {
    pub fn with(name: &str, answers: &[&[&str]]) -> Self {
        let ips = |all: &&[&str]| all.iter().map(|ip| ip.parse().unwrap()).collect();
        let world = Self::default();
        let answers = answers.iter().map(ips).collect();
        world.names.lock().unwrap().insert(name.into(), answers);
        world
    }
}

impl Network for World {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.resolved.lock().unwrap().push(host.to_owned());
        let mut names = self.names.lock().unwrap();
        let found = match names.get_mut(host) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => vec![PUBLIC.parse().unwrap()],
        };
        Box::pin(async move { Ok(found) })
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        self.reached.lock().unwrap().push(to);
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (heard, (answer, rest)) = (self.heard.clone(), self.answer);
        tokio::spawn(async move {
            let mut some = [0; 4_096];
            let count = far.read(&mut some).await.unwrap_or(0);
            heard.lock().unwrap().extend_from_slice(&some[..count]);
            let _ = far.write_all(answer.as_bytes()).await;
            while !rest.is_empty() && far.write_all(rest.as_bytes()).await.is_ok() {}
            // Silent and open until the other side leaves.
            while far.read(&mut some).await.is_ok_and(|count| count > 0) {}
        });
        Box::pin(async move { Ok(Box::new(near) as Stream) })
    }
}

pub(super) fn guard(allow: &[&str]) -> Arc<AddressGuard> {
    let allow: Vec<String> = allow.iter().map(|one| (*one).to_owned()).collect();
    Arc::new(AddressGuard::new(&allow).unwrap())
}

pub(super) fn sender(guard: Arc<AddressGuard>, network: Arc<dyn Network>) -> Sender {
    static TLS: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let tls = TLS.get_or_init(|| {
        let made = Roots::of_the_system().client(None, None, &[b"http/1.1"]);
        made.unwrap()
    });
    Sender::new(guard, network, tls.clone(), LIMIT)
}

async fn post(
    network: Arc<dyn Network>,
    allow: &[&str],
    url: &str,
) -> Result<Result<Reply, SendError>, String> {
    let guard = guard(allow);
    let address = guard.check_url(url).map_err(|why| why.to_string())?;
    let sender = sender(guard, network);
    let body = Bytes::from_static(b"{}");
    Ok(sender.post(&address, HeaderMap::new(), body).await)
}

#[tokio::test(start_paused = true)]
async fn no_spelling_is_reached_and_each_is_refused_with_its_reason() {
    let door = Door::new(Some(guard(&[]))).0;
    let world = Arc::new(World::default());
    for (url, word) in URLS {
        let told = door.check_callback(url).expect_err(url);
        assert!(told.starts_with("the callback address is refused: "));
        assert!(told.contains(word), "{url}: {told}");
        assert!(post(world.clone(), &[], url).await.is_err(), "{url}");
    }
    assert!(URLS.len() >= 60);
    assert_eq!(*world.reached.lock().unwrap(), []);
    assert_eq!(*world.resolved.lock().unwrap(), Vec::<String>::new());
    // The world does listen.
    let taken = post(world.clone(), &[], "https://example.com/").await;
    assert!(
        matches!(taken, Ok(Err(SendError::TimedOut(_)))),
        "{taken:?}"
    );
    let public = format!("{PUBLIC}:443").parse().unwrap();
    assert_eq!(*world.reached.lock().unwrap(), [public]);
}

#[tokio::test]
async fn no_name_leads_inside_alone_or_beside_a_public_address() {
    const NAME: &str = "hooks.example.com";
    for inside in INSIDE {
        for answer in [&[*inside][..], &[PUBLIC, inside], &[inside, PUBLIC]] {
            let world = Arc::new(World::with(NAME, &[answer]));
            let told = post(world.clone(), &[], "https://hooks.example.com/").await;
            assert_eq!(told, Ok(Err(SendError::Inside(NAME.into()))), "{answer:?}");
            assert_eq!(*world.reached.lock().unwrap(), [], "{answer:?}");
        }
    }
    assert!(INSIDE.len() >= 60);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_resolved_once_and_the_connection_goes_to_what_was_judged() {
    let world = World::with("hooks.example.com", &[&[PUBLIC], &["127.0.0.1"]]);
    let world = Arc::new(world);
    let told = post(world.clone(), &[], "https://hooks.example.com:8443/").await;
    assert!(matches!(told, Ok(Err(SendError::TimedOut(_)))), "{told:?}");
    let told = post(world.clone(), &[], "https://hooks.example.com:8443/").await;
    assert!(matches!(told, Ok(Err(SendError::Inside(_)))), "{told:?}");
    let pinned = format!("{PUBLIC}:8443").parse().unwrap();
    assert_eq!(*world.reached.lock().unwrap(), [pinned]);
    assert_eq!(world.resolved.lock().unwrap().len(), 2);
}

/// Real sockets: whatever a resolver or the system makes of a spelling, nobody is accepted.
#[tokio::test]
async fn listeners_on_loopback_are_not_reached() {
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let others = [
        "127.0.0.2",
        "127.0.0.53",
        "127.1.2.3",
        "127.255.255.254",
        "::1",
    ];
    let others = others.map(|ip| TcpListener::bind(SocketAddr::new(ip.parse().unwrap(), port)));
    let names = Names::of_the_system(&crate::config::Names::default(), Tasks::new());
    // A machine may be without IPv6, or have the port taken there.
    let listeners: Vec<TcpListener> = [Ok(first)].into_iter().chain(others).flatten().collect();
    assert!(listeners.len() >= 5);
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
    }
    let accepted = || {
        let accepted = listeners.iter().filter(|one| one.accept().is_ok());
        accepted.count()
    };
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "127.0.0.53",
        "127.1.2.3",
        "127.255.255.254",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "localhost",
        "localhost.",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "example.com@127.0.0.1",
        "ip6-localhost",
        "0",
    ] {
        for scheme in ["https", "http"] {
            let url = format!("{scheme}://{host}:{port}/");
            let told = post(Arc::new(System(Some(names.clone()))), &[], &url).await;
            assert!(told.is_err(), "{url}: {told:?}");
        }
    }
    assert_eq!(accepted(), 0);
    let allow = format!("https://127.0.0.1:{port}/*");
    let url = format!("https://127.0.0.1:{port}/x");
    let allow = [allow.as_str()];
    let reaching = post(Arc::new(System(Some(names.clone()))), &allow, &url);
    let reached = tokio::time::timeout(Duration::from_secs(1), reaching);
    assert!(reached.await.is_err(), "it waits for the TLS handshake");
    assert_eq!(accepted(), 1);
}

async fn answered(answer: (&'static str, &'static str)) -> (Result<Reply, SendError>, Arc<World>) {
    let world = Arc::new(World {
        answer,
        ..World::default()
    });
    let allow = ["http://hooks.example.com/*"];
    let told = post(world.clone(), &allow, "http://hooks.example.com/x?y=1").await;
    (told.unwrap(), world)
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let redirect =
        "HTTP/1.1 307 T\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let (told, world) = answered((redirect, "")).await;
    assert_eq!(told.unwrap().status.as_u16(), 307);
    assert_eq!(world.reached.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn one_request_is_sent_with_the_head_that_was_meant() {
    let (told, world) = answered(("HTTP/1.1 204 N\r\n\r\n", "")).await;
    assert!(told.unwrap().status.is_success());
    let heard = String::from_utf8(world.heard.lock().unwrap().clone()).unwrap();
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    lines.sort_unstable();
    let agent = concat!("user-agent: shunt/", env!("CARGO_PKG_VERSION"));
    let meant = [
        "POST /x?y=1 HTTP/1.1",
        "content-length: 2",
        "content-type: application/json",
        "host: hooks.example.com",
        agent,
    ];
    assert_eq!((lines.as_slice(), body), (&meant[..], "{}"));
}

#[tokio::test]
async fn of_an_answer_only_the_head_is_read_and_not_for_ever() {
    let (told, _) = answered(("HTTP/1.1 200 OK\r\n\r\n", "xxxxxxxxxxxxxxxx")).await;
    assert!(told.unwrap().status.is_success());
    let endless = "HTTP/1.1 200 OK\r\n";
    for line in ["x: xxxxxxxxxxxxxxxx\r\n", "xxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
        let (told, _) = answered((endless, line)).await;
        assert!(matches!(told, Err(SendError::Failed(_))), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_silent_is_left_after_the_limit() {
    for answer in ["", "HTTP/1.1 200 OK\r\nx: ", "HTTP/1.1 100 C\r\n\r\n"] {
        let began = tokio::time::Instant::now();
        let (told, _) = answered((answer, "")).await;
        assert_eq!(told, Err(SendError::TimedOut(LIMIT)));
        assert_eq!(began.elapsed(), LIMIT);
    }
}
