//! Callers of every kind at a constant rate, whatever is answered; each request of theirs has a moment at
//! which it must have ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http::request::Builder;
use http_body_util::Full;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::gateways::{ALONE, BUDGET, HEAD};
use super::names::NAME;
use crate::rig::Client;
use crate::storm::house::{House, Living};
use crate::storm::{CALLER, Connections, EVENTS, TAG, TAKES};

/// What a caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A short call on a connection that is kept.
    Hot,
    /// The same on a connection of its own.
    Fresh,
    /// A stream.
    Stream,
    /// A call whose answer comes long after its budget, and no opt-in.
    Slow,
    /// A call with an `Idempotency-Key`, and again with the same.
    Keyed,
    /// It leaves before its answer.
    Leaving,
    /// It closes its half of the connection once it has asked.
    Halved,
    /// It sends half of a head and nothing more.
    SlowHead,
    /// A call that runs when it is made a job, and is called back.
    Callback,
    /// A job from the start, which is polled.
    Polled,
    /// A job that is cancelled.
    Cancelled,
}

/// Of a hundred calls.
const SHARES: [(Kind, u32); 11] = [
    (Kind::Hot, 20),
    (Kind::Fresh, 12),
    (Kind::Stream, 14),
    (Kind::Slow, 4),
    (Kind::Keyed, 10),
    (Kind::Leaving, 6),
    (Kind::Halved, 2),
    (Kind::SlowHead, 2),
    (Kind::Callback, 15),
    (Kind::Polled, 9),
    (Kind::Cancelled, 6),
];

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Answered(u16),
    /// The connection broke, was closed or could not be made.
    Broken,
    /// The caller left, as it meant to.
    Left,
    /// Nothing, long after it had to end.
    Silent,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Step {
    pub kind: Kind,
    pub name: &'static str,
    pub gateway: usize,
    pub from: Instant,
    pub ended: Instant,
    /// How long it may take.
    pub allowed: Duration,
    pub what: What,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Done {
    pub tag: u32,
    pub kind: Kind,
    pub steps: Vec<Step>,
    /// The job that it was given, and by which gateway.
    pub job: Option<(String, usize)>,
    /// It was told that its job is cancelled.
    pub cancelled: bool,
    /// Under one key it was given two answers.
    pub unlike: bool,
}

/// Beyond this the caller goes.
const SILENCE: Duration = Duration::from_secs(30);

/// What the store may take over a job before its caller hears that there is none.
const STORE: Duration = Duration::from_millis(500);

/// The same for a question about a job.
const ASKED: Duration = Duration::from_secs(5);

/// How long a job's page is held for a change.
const HOLD: Duration = Duration::from_secs(3);

/// How long a job is polled.
const POLLED: Duration = Duration::from_mins(1);

/// What callers have in common.
pub struct Street {
    pub house: Arc<House>,
    pub connections: Connections,
    pub receiver: SocketAddr,
    pub seed: u64,
}

/// A caller at work.
struct Caller {
    street: Arc<Street>,
    random: StdRng,
    done: Done,
}

fn request(path: &str) -> Builder {
    Request::builder()
        .uri(path)
        .header("host", "chaos")
        .header("authorization", CALLER)
}

fn call(model: &str, takes: u64) -> Builder {
    let request = request("/v1/chat/completions").method("POST");
    let request = request.header("content-type", "application/json");
    request.header(TAKES, takes).header("x-model", model)
}

fn body(model: &str, streamed: bool, tag: u32) -> Full<Bytes> {
    let text = format!(
        r#"{{"model":"{model}","stream":{streamed},"messages":[{{"role":"user","content":"Hi {tag}"}}]}}"#
    );
    Full::new(Bytes::from(text))
}

impl Caller {
    /// Does something that must end in time.
    async fn step<T>(
        &mut self,
        name: &'static str,
        to: Living,
        allowed: Duration,
        act: impl Future<Output = Result<(What, T)>>,
    ) -> Option<T> {
        let from = Instant::now();
        let (what, told) = match tokio::time::timeout(allowed + SILENCE, act).await {
            Err(_) => (What::Silent, None),
            Ok(Err(_)) => (What::Broken, None),
            Ok(Ok((what, told))) => (what, Some(told)),
        };
        self.done.steps.push(Step {
            kind: self.done.kind,
            name,
            gateway: to.gateway,
            from,
            ended: Instant::now(),
            allowed,
            what,
        });
        told
    }

    async fn ask(
        &mut self,
        name: &'static str,
        to: Living,
        allowed: Duration,
        request: Request<Full<Bytes>>,
    ) -> Option<(u16, Bytes)> {
        let connections = self.street.connections.clone();
        let act = async move {
            let (status, body) = connections.send(to.public, request).await?;
            Ok((What::Answered(status), (status, body)))
        };
        self.step(name, to, allowed, act).await
    }

    /// A gateway that lives; `peer`: one that knows its jobs.
    fn gateway(&mut self, peer: Option<usize>) -> Option<Living> {
        let living = self.street.house.living();
        let alone = peer.map(|one| one == ALONE);
        let fits = |one: &&Living| alone.is_none_or(|alone| (one.gateway == ALONE) == alone);
        let all: Vec<_> = living.iter().filter(fits).collect();
        if all.is_empty() {
            return None;
        }
        Some(*all[self.random.random_range(0..all.len())])
    }

    async fn run(mut self) -> Result<Done> {
        let Some(to) = self.gateway(None) else {
            return Ok(self.done);
        };
        match self.done.kind {
            Kind::Hot | Kind::Stream | Kind::Slow | Kind::Fresh | Kind::Leaving => {
                self.hot(to).await?;
            }
            Kind::Keyed => self.keyed(to).await?,
            Kind::Halved => self.raw(to, true, BUDGET).await,
            Kind::SlowHead => self.raw(to, false, HEAD).await,
            Kind::Callback | Kind::Polled | Kind::Cancelled => self.cold(to).await?,
        }
        Ok(self.done)
    }

    async fn hot(&mut self, to: Living) -> Result<()> {
        let takes = self.random.random_range(5..60);
        let (takes, streamed) = match self.done.kind {
            Kind::Slow => (20_000, false),
            Kind::Leaving => (600, self.random.random()),
            Kind::Stream => (takes * 10, true),
            _ => (takes, false),
        };
        let mut call = call("hot", takes);
        if streamed {
            call = call.header(EVENTS, 12);
        }
        let request = call.body(body("hot", streamed, self.done.tag))?;
        let allowed = Duration::from_millis(BUDGET);
        match self.done.kind {
            Kind::Fresh => {
                let act = async move {
                    let (status, _) = Client::connect(to.public).await?.request(request).await?;
                    Ok((What::Answered(status), ()))
                };
                self.step("call", to, allowed, act).await;
            }
            Kind::Leaving => {
                let rest = Duration::from_millis(self.random.random_range(0..500));
                let act = async move {
                    let mut client = Client::connect(to.public).await?;
                    match tokio::time::timeout(rest, client.request(request)).await {
                        Err(_) => Ok((What::Left, ())),
                        Ok(told) => Ok((What::Answered(told?.0), ())),
                    }
                };
                self.step("call", to, allowed, act).await;
            }
            _ => {
                self.ask("call", to, allowed, request).await;
            }
        }
        Ok(())
    }

    async fn keyed(&mut self, to: Living) -> Result<()> {
        let takes = self.random.random_range(5..60);
        let key = format!("{}-{}", self.street.seed, self.done.tag);
        let mut first = None;
        for _ in 0..3 {
            let Some(to) = self.gateway(Some(to.gateway)) else {
                return Ok(());
            };
            let call = call("hot", takes).header("idempotency-key", &key);
            let request = call.body(body("hot", false, self.done.tag))?;
            let allowed = Duration::from_millis(BUDGET);
            if let Some((200, answer)) = self.ask("call", to, allowed, request).await {
                let known = first.get_or_insert_with(|| answer.clone());
                self.done.unlike |= *known != answer;
            }
            let rest = self.random.random_range(0..400);
            tokio::time::sleep(Duration::from_millis(rest)).await;
        }
        Ok(())
    }

    /// A request of bytes: whole, and then no more is sent ever; or half of its head.
    async fn raw(&mut self, to: Living, whole: bool, allowed: u64) {
        let text = r#"{"model":"hot","messages":[]}"#;
        let end = if whole { "\r\n\r\n" } else { "" };
        let length = text.len();
        let mut sent = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: chaos\r\n{TAKES}: 50\r\n\
             content-type: application/json\r\ncontent-length: {length}{end}"
        );
        if whole {
            sent += text;
        }
        let act = async move {
            let mut stream = TcpStream::connect(to.public).await?;
            stream.write_all(sent.as_bytes()).await?;
            if whole {
                stream.shutdown().await?;
            }
            let mut told = Vec::new();
            stream.read_to_end(&mut told).await?;
            let told = String::from_utf8_lossy(&told);
            let status = told.split(' ').nth(1).and_then(|word| word.parse().ok());
            Ok((status.map_or(What::Broken, What::Answered), ()))
        };
        self.step("bytes", to, Duration::from_millis(allowed), act)
            .await;
    }

    async fn cold(&mut self, to: Living) -> Result<()> {
        let (tag, receiver) = (self.done.tag, self.street.receiver.port());
        let running = self.done.kind == Kind::Callback && tag.is_multiple_of(2);
        let takes = match self.done.kind {
            Kind::Cancelled => 5_000,
            _ => self.random.random_range(200..900),
        };
        let mut call = call("gpt-4o", takes).header(TAG, tag);
        if tag.is_multiple_of(3) {
            call = call.header(EVENTS, 8);
        }
        if self.done.kind != Kind::Polled {
            let address = format!("http://{NAME}:{receiver}/hook/{tag}");
            call = call.header("x-shunt-callback", address);
        }
        call = if running {
            call.header("prefer", "respond-async")
                .header("x-shunt-budget", "100ms")
        } else {
            call.header("prefer", "respond-async, wait=0")
        };
        let request = call.body(body("gpt-4o", tag.is_multiple_of(3), tag))?;
        let budget = Duration::from_millis(if running { 100 } else { 0 });
        let Some((202, told)) = self.ask("demotion", to, budget + STORE, request).await else {
            return Ok(());
        };
        let told: serde_json::Value = serde_json::from_slice(&told)?;
        let job = told["id"].as_str().unwrap_or_default().to_owned();
        self.done.job = Some((job.clone(), to.gateway));
        match self.done.kind {
            Kind::Polled => self.poll(&job, to.gateway).await,
            Kind::Cancelled => self.cancel(&job, to.gateway).await,
            _ => Ok(()),
        }
    }

    async fn poll(&mut self, job: &str, peer: usize) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < POLLED {
            let Some(to) = self.gateway(Some(peer)) else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let page = request(&format!("/jobs/{job}"));
            let page = page.header("prefer", format!("wait={}", HOLD.as_secs()));
            let told = self
                .ask("poll", to, HOLD + ASKED, page.body(Full::default())?)
                .await;
            let told = told.filter(|(status, _)| *status == 200);
            let told = told.and_then(|(_, body)| serde_json::from_slice(&body).ok());
            let told: serde_json::Value = told.unwrap_or_default();
            if told["finished_at"].is_string() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn cancel(&mut self, job: &str, peer: usize) -> Result<()> {
        let rest = self.random.random_range(0..1_500);
        tokio::time::sleep(Duration::from_millis(rest)).await;
        let Some(to) = self.gateway(Some(peer)) else {
            return Ok(());
        };
        let page = request(&format!("/jobs/{job}")).method("DELETE");
        let told = self
            .ask("cancel", to, ASKED, page.body(Full::default())?)
            .await;
        self.done.cancelled = told.is_some_and(|(status, _)| status == 200);
        Ok(())
    }
}

fn kind(random: &mut StdRng) -> Kind {
    let mut drawn = random.random_range(0..100);
    for (kind, share) in SHARES {
        if drawn < share {
            return kind;
        }
        drawn -= share;
    }
    Kind::Hot
}

/// Callers at a constant rate, for so long.
///
/// # Errors
/// An answer that is none.
pub async fn arrive(
    street: Arc<Street>,
    rate: u32,
    length: Duration,
    first: u32,
) -> Result<Vec<Done>> {
    let began = Instant::now();
    let (mut under, mut all) = (JoinSet::new(), Vec::new());
    for number in 0.. {
        let at = Duration::from_secs(1) * number / rate;
        if at >= length {
            break;
        }
        tokio::time::sleep_until((began + at).into()).await;
        let tag = first + number;
        let mut random =
            StdRng::seed_from_u64(street.seed ^ u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let done = Done {
            tag,
            kind: kind(&mut random),
            steps: Vec::new(),
            job: None,
            cancelled: false,
            unlike: false,
        };
        let caller = Caller {
            street: street.clone(),
            random,
            done,
        };
        under.spawn(caller.run());
        while let Some(done) = under.try_join_next() {
            all.push(done??);
        }
    }
    while let Some(done) = under.join_next().await {
        all.push(done??);
    }
    Ok(all)
}
