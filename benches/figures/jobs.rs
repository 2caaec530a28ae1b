//! Jobs a second from end to end on each store: accepted, run on a provider that answers at once,
//! stored, called back; and what a job costs where a million others wait.
//!
//! As many new jobs are sent as end, so that what waits stays as much.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use shunt::server::Server;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::KEYS;
use super::behave::Providers;
use super::cluster::Cluster;
use super::rig::{Client, start_on};
use super::stored::{Stored, multiply, url};
use super::storm::{Calls, provide};

/// Jobs accepted and not yet called back, beside those that wait.
const UNDER_WAY: usize = 2_000;
/// Connections over which they come.
const SENDERS: usize = 64;
const WARM: Duration = Duration::from_secs(3);
/// How long it is counted; with `--quick` for a trial.
const MEASURED: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(3)];

/// The most that a job may cost at the great depth, as a multiple of its cost at the small one.
const MOST: f64 = 2.0;

/// What waits in the store beside what is under way.
#[derive(Clone, Copy)]
enum Depth {
    /// Nothing.
    Shallow,
    /// So many jobs of the same route, all due.
    Due(usize),
    /// So many jobs of another route, due in an hour.
    Later(usize),
}

/// What callbacks are signed with.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// What waits at the great depth; with `--quick` a trial.
const WAITING: [usize; 2] = [1_000_000, 20_000];

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
    let asked = |name: &str| arguments.iter().any(|one| one == name);
    let trial = usize::from(asked("--quick"));
    let (measured, waiting) = (MEASURED[trial], WAITING[trial]);
    println!("jobs: on {}", machine());
    for store in Stored::asked(arguments) {
        let shallow = measure(store, UNDER_WAY, Depth::Shallow, measured)?;
        println!(
            "jobs, {store}: {shallow:.0} a second accepted, run, stored and called back, {UNDER_WAY} under way"
        );
        if asked("--shallow") {
            continue;
        }
        let thousand = measure(store, 1_000, Depth::Shallow, measured)?;
        for (name, depth) in [
            ("all due", Depth::Due(waiting)),
            ("of another route, due later", Depth::Later(waiting)),
        ] {
            let deep = measure(store, 1_000, depth, measured)?;
            let costs = thousand / deep;
            println!(
                "jobs, {store}: {thousand:.0} a second where 1,000 wait, {deep:.0} where {waiting} more do ({name}): {costs:.2} of the cost"
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

/// Where the jobs of one measurement are kept, run and told.
struct Bench {
    cluster: Option<Cluster>,
    folder: tempfile::TempDir,
    provider: SocketAddr,
    hook: SocketAddr,
    /// Jobs called back.
    ended: Arc<AtomicU64>,
    /// Room for so many more.
    room: Arc<Semaphore>,
    _receivers: Providers,
}

impl Bench {
    fn new(store: Stored) -> Result<Self> {
        let (ended, room) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, freed) = (ended.clone(), room.clone());
        let receive = move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            freed.add_permits(1);
            (Duration::ZERO, 200)
        };
        let receivers = Providers::start(1, Arc::new(receive))?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("secret"), SECRET)?;
        Ok(Self {
            cluster: store.cluster()?,
            folder,
            provider: instant()?,
            hook: receivers.addresses[0],
            ended,
            room,
            _receivers: receivers,
        })
    }

    fn gateway(&self) -> Result<Server> {
        let (provider, hook, folder) = (self.provider, self.hook, self.folder.path());
        let further = format!(
            "queue_limit = 2000000\nseal_keys_env = \"{KEYS}\"\n[callbacks]\nsecret = {{ file = \"{}/secret\" }}\n\
             allow = [\"http://{hook}/*\"]\nconcurrency = 256\nper_endpoint = 256\n\
             [providers.sim]\nbase_url = \"http://{provider}\"\ndialect = \"openai\"\n{ROUTES}",
            folder.display()
        );
        start_on(&url(self.cluster.as_ref(), folder), &further)
    }

    /// Puts what waits into the store: copies of a job that a gateway has made and run.
    fn fill(&self, runtime: &Runtime, depth: Depth) -> Result<()> {
        let (path, count, later) = match depth {
            Depth::Shallow => return Ok(()),
            Depth::Due(count) => ("/v1/chat/completions", count, Duration::ZERO),
            Depth::Later(count) => ("/later", count, Duration::from_hours(1)),
        };
        let server = self.gateway()?;
        runtime.block_on(async {
            let mut client = Client::connect(server.public).await?;
            let (status, _) = client
                .request(demand(server.public, path, self.hook)?)
                .await?;
            ensure!(status == 202, "{status} for the pattern");
            // Its callback makes room for one.
            let told = tokio::time::timeout(Duration::from_secs(10), self.room.acquire()).await;
            told.context("the pattern was not called back")??.forget();
            // What came of the callback is written a moment later.
            tokio::time::sleep(Duration::from_millis(200)).await;
            anyhow::Ok(())
        })?;
        ensure!(server.drain() == 0, "tasks were left after the drain");
        let later = u64::try_from(later.as_millis())?;
        multiply(self.cluster.as_ref(), self.folder.path(), count, later)
    }
}

/// Jobs that end a second.
fn measure(store: Stored, under_way: usize, depth: Depth, time: Duration) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bench = Bench::new(store)?;
    bench.fill(&runtime, depth)?;
    let server = bench.gateway()?;
    bench.room.add_permits(under_way);
    let rate = runtime.block_on(async {
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send(server.public, bench.hook, bench.room.clone()));
        }
        tokio::time::sleep(WARM).await;
        let (before, began) = (bench.ended.load(Ordering::Relaxed), Instant::now());
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            Some(failed) = senders.join_next() => failed??,
        }
        let done = bench.ended.load(Ordering::Relaxed) - before;
        anyhow::Ok(done as f64 / began.elapsed().as_secs_f64())
    })?;
    ensure!(server.drain() == 0, "tasks were left after the drain");
    Ok(rate)
}

/// A call that is a job at once.
fn demand(gateway: SocketAddr, path: &str, hook: SocketAddr) -> Result<Request<Full<Bytes>>> {
    let request = Request::post(path)
        .header("host", gateway.to_string())
        .header("content-type", "application/json")
        .header("prefer", "respond-async, wait=0")
        .header("x-shunt-callback", format!("http://{hook}/"));
    let body = Bytes::from_static(br#"{"model":"m","messages":[]}"#);
    Ok(request.body(Full::new(body))?)
}

/// Sends a call that is a job at once, whenever there is room for one more.
async fn send(gateway: SocketAddr, hook: SocketAddr, room: Arc<Semaphore>) -> Result<()> {
    let mut client = Client::connect(gateway).await?;
    loop {
        room.acquire().await?.forget();
        let request = demand(gateway, "/v1/chat/completions", hook)?;
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
