//! What Shunt costs on one core, against a bare hyper proxy in the same run.
//!
//! Both proxies run on one thread each, one after the other, in alternating rounds. The load and
//! the provider share the other core, so throughput alone would flatter whichever is faster than
//! they are: the CPU time of the proxy's own thread per request decides. That core never sleeps:
//! else a proxy would pay to wake it with every write, the more the longer it had to wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::rig::{at, gateway, sorted};

#[path = "../peers/bare.rs"]
mod bare_proxy;

const CONNECTIONS: usize = 32;
/// Short, so that those that are compared meet the same moods of a shared machine.
const ROUND: Duration = Duration::from_secs(1);
pub const ROUNDS: usize = 20;

pub const ROUTES: &str = r#"
[[routes]]
name    = "other"
match   = { path = "/v1/chat/completions", model = "claude*" }
targets = ["sim"]
[[routes]]
name    = "chat"
match   = { path = "/v1/chat/completions", model = "gpt-*" }
targets = ["sim"]
budget  = { first_token = "2s", total = "10s" }
hedge   = { after = "p95", max_extra = 0.05 }
"#;

/// Reads one message: head, and a body of its `Content-Length`.
async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<bool> {
    buffer.clear();
    let mut chunk = [0u8; 8_192];
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(false);
        }
        buffer.extend_from_slice(&chunk[..read]);
        let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.trim().parse::<usize>().ok());
        if buffer.len() >= end + 4 + length.unwrap_or(0) {
            return Ok(true);
        }
    }
}

/// A provider that answers at once with 1 kB of JSON.
async fn provide(listener: TcpListener) -> Result<()> {
    let body = format!(
        r#"{{"id":"x","text":"{}","usage":{{"prompt_tokens":1}}}}"#,
        "y".repeat(960)
    );
    let answer: Arc<str> = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into();
    let mut tasks = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        tasks.spawn(async move {
            let mut buffer = Vec::new();
            while message(&mut stream, &mut buffer).await.unwrap_or(false) {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// A bare proxy on a thread of its own.
pub fn bare(provider: SocketAddr) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new()
        .name("bare".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                bare_proxy::serve(TcpListener::from_std(listener)?, provider).await
            })
        })?;
    Ok(address)
}

/// CPU time of those threads of this process whose names are wanted; the main one is named `main` here.
fn cpu(wanted: impl Fn(&str) -> bool) -> Result<Duration> {
    let (main, mut found, mut all) = (std::process::id().to_string(), false, Duration::ZERO);
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?;
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let is_main = task.file_name().to_str() == Some(&main);
        if wanted(if is_main { "main" } else { comm.trim() }) {
            let text = std::fs::read_to_string(task.path().join("schedstat"))?;
            let nanos = text.split(' ').next();
            let nanos = nanos.context("schedstat has three fields")?.parse()?;
            (found, all) = (true, all + Duration::from_nanos(nanos));
        }
    }
    anyhow::ensure!(found, "there is no such thread");
    Ok(all)
}

/// Calls as fast as they go, or `rate` a second at a constant rate. Gives the calls made.
async fn load(address: SocketAddr, rate: Option<f64>) -> Result<u64> {
    let body = format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "z".repeat(900)
    );
    let request: Arc<str> = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         authorization: Bearer k\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into();
    let made = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    let end = Instant::now() + ROUND;
    for caller in 0..CONNECTIONS {
        let (request, made) = (request.clone(), made.clone());
        callers.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut buffer = Vec::new();
            let step = rate.map(|rate| Duration::from_secs_f64(CONNECTIONS as f64 / rate));
            let mut due = tokio::time::Instant::now()
                + step
                    .unwrap_or_default()
                    .mul_f64(caller as f64 / CONNECTIONS as f64);
            while Instant::now() < end {
                if let Some(step) = step {
                    tokio::time::sleep_until(due).await;
                    due += step;
                }
                stream.write_all(request.as_bytes()).await?;
                anyhow::ensure!(message(&mut stream, &mut buffer).await?, "the proxy closed");
                anyhow::ensure!(buffer.starts_with(b"HTTP/1.1 200"), "the proxy failed");
                made.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(made.load(Ordering::Relaxed))
}

pub struct Round {
    pub rate: f64,
    pub micros: f64,
}

/// Calls as fast as they go, and what they cost the threads of these names.
pub async fn round(address: SocketAddr, threads: impl Fn(&str) -> bool) -> Result<Round> {
    let before = cpu(&threads)?;
    let calls = load(address, None).await?;
    let used = cpu(&threads)?.saturating_sub(before);
    Ok(Round {
        rate: calls as f64 / ROUND.as_secs_f64(),
        micros: used.as_secs_f64() * 1e6 / calls as f64,
    })
}

/// The median of rounds.
pub fn median(rounds: &[Round], of: fn(&Round) -> f64) -> f64 {
    at(&sorted(rounds.iter().map(of).collect()), 0.5)
}

/// The median of what one round is to the round of another that was beside it.
pub fn ratio(these: &[Round], those: &[Round], of: fn(&Round) -> f64) -> f64 {
    let each = these.iter().zip(those);
    at(
        &sorted(each.map(|(this, that)| of(this) / of(that)).collect()),
        0.5,
    )
}

/// Load and provider, on a thread whose core never sleeps.
pub struct Around {
    pub runtime: tokio::runtime::Runtime,
    pub provider: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Around {
    pub fn begin() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let provider = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        let provides = async move { provide(listener).await.unwrap_or(()) };
        tasks.spawn_on(provides, runtime.handle());
        let wakes = async {
            loop {
                tokio::task::yield_now().await;
            }
        };
        tasks.spawn_on(wakes, runtime.handle());
        Ok(Self {
            runtime,
            provider,
            _tasks: tasks,
        })
    }
}

pub fn run() -> Result<()> {
    let Around {
        runtime,
        provider,
        _tasks,
    } = Around::begin()?;
    let bare = bare(provider)?;
    let (server, _folder) = gateway(provider, "openai", ROUTES)?;
    let (mut bares, mut shunts) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            bares.push(round(bare, |name| name == "bare").await?);
            shunts.push(round(server.public, |name| name == "worker-0").await?);
        }
        anyhow::Ok(())
    })?;
    for (name, rounds) in [("bare hyper proxy", &bares), ("shunt", &shunts)] {
        println!(
            "{name:<18}{:>9.0} requests/s{:>8.1} us CPU a request",
            median(rounds, |one| one.rate),
            median(rounds, |one| one.micros)
        );
    }
    let cost = median(&shunts, |one| one.micros);
    println!(
        "throughput on one core, by CPU a request: {:.2} of the bare proxy's; by requests/s: {:.2}",
        ratio(&bares, &shunts, |one| one.micros),
        ratio(&shunts, &bares, |one| one.rate)
    );
    let half = 0.5e6 / cost;
    // The windows of the rounds at full speed have to pass before the overhead is read.
    let fresh = gateway(provider, "openai", ROUTES)?;
    runtime.block_on(load(fresh.0.public, Some(half)))?;
    std::thread::sleep(Duration::from_millis(1_500));
    let overhead = fresh.0.overhead("chat").context("the route is measured")?;
    println!(
        "shunt_overhead_seconds at {half:.0} requests/s (half of one core's): p50 {:.0} us, p99 {:.0} us",
        overhead.p50.as_secs_f64() * 1e6,
        overhead.p99.as_secs_f64() * 1e6
    );
    fresh.0.drain();
    server.drain();
    Ok(())
}
