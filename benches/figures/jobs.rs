//! Jobs a second from end to end on each store: accepted, run on a provider that answers at once,
//! stored, called back; and what a job costs where a million others wait.
//!
//! As many new jobs are sent as end, so that what waits stays as much.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use shunt::cold::job::UnixMillis;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::behave::Providers;
use super::rig::{Client, start_on};
use super::stored::{Stored, url};
use super::storm::{Calls, provide};

/// Jobs accepted and not yet called back, beside those that wait.
const UNDER_WAY: usize = 2_000;
/// Connections over which they come.
const SENDERS: usize = 64;
const WARM: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);

/// The most that a job may cost at the great depth, as a multiple of its cost at the small one.
const MOST: f64 = 2.0;

/// What waits in the store beside what is under way.
#[derive(Clone, Copy)]
enum Depth {
    /// Nothing.
    Shallow,
    /// A million jobs of the same route, all due.
    Due,
    /// A million jobs of another route, due in an hour.
    Later,
}

const MILLION: usize = 1_000_000;

const ROUTES: &str = r#"
[[routes]]
name    = "chat"
match   = { path = "/v1/chat/completions" }
targets = ["sim"]
retries = { max = 0 }
predict = { floor = 0 }
cold    = { concurrency = 256, deadline = "24h" }
[[routes]]
name    = "later"
match   = { path = "/later" }
targets = ["sim"]
"#;

pub fn run(arguments: &[String]) -> Result<()> {
    println!("jobs: on {}", machine());
    for store in Stored::asked(arguments) {
        let shallow = measure(store, UNDER_WAY, Depth::Shallow)?;
        println!(
            "jobs, {store}: {shallow:.0} a second accepted, run, stored and called back, {UNDER_WAY} under way"
        );
        if arguments.iter().any(|one| one == "--shallow") {
            continue;
        }
        let thousand = measure(store, 1_000, Depth::Shallow)?;
        for (name, depth) in [
            ("all due", Depth::Due),
            ("due later, of another route", Depth::Later),
        ] {
            let deep = measure(store, 1_000, depth)?;
            let costs = thousand / deep;
            println!(
                "jobs, {store}: {thousand:.0} a second where 1,000 wait, {deep:.0} where 1,000,000 more do ({name}): {costs:.2} of the cost"
            );
            ensure!(
                costs <= MOST,
                "a job costs {costs:.2} times as much at the great depth"
            );
        }
    }
    Ok(())
}

/// The machine, as it calls itself.
fn machine() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("an unknown CPU", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores of {model}, gateway, store, provider, receiver and load together")
}

/// Jobs that end a second.
fn measure(store: Stored, under_way: usize, depth: Depth) -> Result<f64> {
    let cluster = store.cluster()?;
    let folder = tempfile::tempdir()?;
    let url = url(cluster.as_ref(), folder.path());
    let ended = Arc::new(AtomicU64::new(0));
    let room = Arc::new(Semaphore::new(under_way));
    let (counted, freed) = (ended.clone(), room.clone());
    let receivers = Providers::start(
        1,
        Arc::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            freed.add_permits(1);
            (Duration::ZERO, 200)
        }),
    )?;
    let hook = receivers.addresses[0];
    fill(store, &url, depth, hook)?;
    let provider = instant()?;
    let secret = folder.path().join("secret");
    std::fs::write(
        &secret,
        "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    )?;
    let further = format!(
        "queue_limit = 2000000\n[callbacks]\nsecret = {{ file = \"{}\" }}\nallow = [\"http://{hook}/*\"]\n\
         concurrency = 256\nper_endpoint = 256\n[providers.sim]\nbase_url = \"http://{provider}\"\n\
         dialect = \"openai\"\n{ROUTES}",
        secret.display()
    );
    let server = start_on(&url, &further)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let rate = runtime.block_on(async {
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send(server.public, hook, room.clone()));
        }
        tokio::time::sleep(WARM).await;
        let (before, began) = (ended.load(Ordering::Relaxed), std::time::Instant::now());
        tokio::select! {
            () = tokio::time::sleep(MEASURED) => {}
            failed = senders.join_next() => {
                failed.context("no sender")???;
            }
        }
        let done = ended.load(Ordering::Relaxed) - before;
        anyhow::Ok(done as f64 / began.elapsed().as_secs_f64())
    })?;
    ensure!(server.drain() == 0, "tasks were left after the drain");
    Ok(rate)
}

/// Sends a call that is a job at once, whenever there is room for one more.
async fn send(gateway: SocketAddr, hook: SocketAddr, room: Arc<Semaphore>) -> Result<()> {
    let mut client = Client::connect(gateway).await?;
    let body = Bytes::from_static(br#"{"model":"m","messages":[]}"#);
    loop {
        room.acquire().await?.forget();
        let request = Request::post("/v1/chat/completions")
            .header("host", gateway.to_string())
            .header("content-type", "application/json")
            .header("prefer", "respond-async, wait=0")
            .header("x-shunt-callback", format!("http://{hook}/"))
            .body(Full::new(body.clone()))?;
        let (status, told) = client.request(request).await?;
        match status {
            202 => {}
            // The store does not keep up at this moment: the room is still there.
            503 => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                room.add_permits(1);
            }
            _ => bail!("{status}: {}", String::from_utf8_lossy(&told)),
        }
    }
}

/// A provider that answers at once, on a thread of its own.
fn instant() -> Result<SocketAddr> {
    let (told, address) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("provider".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                let calls = Calls::default();
                let addresses = provide(1, &calls, &mut tasks).await?;
                told.send(addresses[0])?;
                tasks.join_next().await;
                anyhow::Ok(())
            })
        })?;
    Ok(address.recv()?)
}

/// Puts what waits into the store, before the gateway has it.
fn fill(store: Stored, url: &str, depth: Depth, hook: SocketAddr) -> Result<()> {
    let (route, due) = match depth {
        Depth::Shallow => return Ok(()),
        Depth::Due => ("chat", UnixMillis::now()),
        Depth::Later => ("later", UnixMillis::now().plus(Duration::from_hours(1))),
    };
    store.fill(url, MILLION, route, due, &format!("http://{hook}/"))
}
