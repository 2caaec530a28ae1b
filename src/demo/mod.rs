//! The whole product on loopback, with no keys: providers with a heavy tail, a gateway, a receiver
//! of callbacks and steady traffic; a table of what changes.
//!
//! Promises: everything runs the code that `serve` runs; what it made is gone when it ends.

mod client;
mod ends;
mod receiver;
mod told;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;
use tokio::time::{Instant, interval, interval_at};

use self::ends::{Folder, Stops};
use self::receiver::Arrived;
use self::told::{Addresses, Figures, Firsts};
use crate::cold::callback::Signer;
use crate::config::{self, Secret};
use crate::latency::Series;
use crate::server::Server;
use crate::simulate::{Settings, Simulation};
use crate::tasks::Tasks;

/// Calls a second, straight and through Shunt each.
const RATE: u32 = 40;

/// One call in so many takes far longer than its budget.
const SLOW_EVERY: u64 = 40;

/// One call in so many is a stream.
const STREAM_EVERY: u64 = 3;

/// How often the figures are told: on a terminal in place, elsewhere as a line each.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_LINE: Duration = Duration::from_secs(5);

/// Where each call is a line, within the demo's folder.
const CALLS: &str = "calls.log";

/// That file begins anew past so many bytes, some 40 minutes: a demo may run for days.
const ANEW: u64 = 64 << 20;

/// Flags of `shunt demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// End after so many seconds; without it, at Ctrl-C or SIGTERM.
    #[arg(long)]
    seconds: Option<u64>,
}

/// What the demo's apps saw.
struct Seen {
    straight: Series,
    through: Series,
    hedged: AtomicU64,
    demoted: AtomicU64,
    failed: AtomicU64,
}

struct Scene {
    seen: Seen,
    provider: SocketAddr,
    gateway: SocketAddr,
    hook: String,
    calls: PathBuf,
    arrived: Arc<Arrived>,
}

fn configuration(folder: &Path, provider: SocketAddr, hook: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        r#"
[listen]
public = "127.0.0.1:0"
admin  = "127.0.0.1:0"
[server]
drain = "2s"
[providers.sim]
base_url = "http://{provider}"
dialect  = "openai"
[[routes]]
name    = "chat"
match   = {{ path = "/v1/chat/completions" }}
targets = ["sim"]
budget  = {{ first_token = "1500ms", total = "1500ms" }}
hedge   = {{ after = "250ms", max_extra = 0.1 }}
[cold]
store = "sqlite:{folder}/jobs.db"
[callbacks]
secret = {{ file = "{folder}/secret" }}
allow  = ["http://{hook}/*"]
[access_log]
format = "json"
file   = "{folder}/{CALLS}"
"#
    )
}

/// Runs the demo.
///
/// # Errors
/// No port is free, or the temporary folder cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut stops = runtime.block_on(async { Stops::hear() })?;
    let folder = Folder::new()?;
    let key: [u8; 32] = rand::random();
    let secret = format!(
        "whsec_{}",
        base64::engine::general_purpose::STANDARD.encode(key)
    );
    std::fs::write(folder.0.join("secret"), &secret)?;
    let signer = Signer::new(&[Secret::new(secret)]).map_err(|why| anyhow::anyhow!(why))?;

    let tasks = Tasks::new();
    let (simulation, (hook, arrived)) = runtime.block_on(async {
        let simulation = Simulation::start(Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            first_token: "bimodal(120ms, 1200ms, 0.05)"
                .parse()
                .map_err(anyhow::Error::msg)?,
            token_gap: "fixed(1ms)".parse().map_err(anyhow::Error::msg)?,
            ..Settings::default()
        });
        let simulation = simulation.await?;
        anyhow::Ok((simulation, receiver::start(signer, &tasks).await?))
    })?;
    let text = configuration(&folder.0, simulation.address(), hook);
    let server = Server::start(&config::parse(&text, "demo")?)?;
    let scene = Arc::new(Scene {
        seen: Seen {
            straight: Series::new(1),
            through: Series::new(1),
            hedged: AtomicU64::new(0),
            demoted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        },
        provider: simulation.address(),
        gateway: server.public,
        hook: format!("http://{hook}/hook"),
        calls: folder.0.join(CALLS),
        arrived,
    });
    introduce(&server, &scene)?;
    runtime.block_on(play(
        &scene,
        &tasks,
        arguments.seconds.map(Duration::from_secs),
        &server,
        &mut stops,
    ))?;
    tasks.cut();
    runtime.block_on(async {
        tasks.ended().await;
        simulation.shutdown().await;
    });
    server.drain();
    Ok(())
}

fn introduce(server: &Server, scene: &Scene) -> Result<()> {
    let addresses = Addresses {
        admin: server.admin.to_string(),
        public: server.public.to_string(),
        provider: scene.provider.to_string(),
        calls: scene.calls.display().to_string(),
    };
    let text = told::introduction(&addresses, RATE, STREAM_EVERY, SLOW_EVERY);
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Where the figures are told.
struct Screen {
    terminal: bool,
    began: Instant,
    firsts: Firsts,
}

impl Screen {
    fn write(&self, line: &str, stays: bool) -> Result<()> {
        let mut out = std::io::stdout();
        out.write_all(told::shown(line, self.terminal, stays).as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Tells what is seen for the first time.
    fn tell_firsts(&mut self, scene: &Scene) -> Result<()> {
        for news in self.firsts.news(&scene.counted(), self.began.elapsed()) {
            self.write(&news, true)?;
        }
        Ok(())
    }
}

/// Traffic at a constant rate and what is seen of it; then the summary.
async fn play(
    scene: &Arc<Scene>,
    tasks: &Tasks,
    limit: Option<Duration>,
    server: &Server,
    stops: &mut Stops,
) -> Result<()> {
    let began = Instant::now();
    let mut calls = interval(Duration::from_secs(1) / RATE);
    let terminal = std::io::stdout().is_terminal();
    let every = if terminal { EVERY } else { EVERY_LINE };
    let mut lines = interval_at(began + every, every);
    let mut screen = Screen {
        terminal,
        began,
        firsts: Firsts::default(),
    };
    let mut count = 0;
    loop {
        tokio::select! {
            () = stops.asked() => break,
            _ = calls.tick() => {
                if limit.is_some_and(|limit| began.elapsed() >= limit) {
                    break;
                }
                count += 1;
                tasks.spawn(call(scene.clone(), count));
                screen.tell_firsts(scene)?;
            }
            _ = lines.tick() => {
                screen.write(&told::line(&scene.figures()), false)?;
                scene.bound_log(server);
            }
        }
    }
    // The last callbacks are still on their way.
    let patience = Instant::now() + Duration::from_secs(6);
    while owed(scene) > 0 && Instant::now() < patience {
        tokio::select! {
            // Who asks twice does not wait for them.
            () = stops.asked() => break,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        screen.tell_firsts(scene)?;
    }
    let all = scene.figures();
    screen.write(&told::line(&all), true)?;
    let won = server.counter_sum("shunt_hedges_total", "result=\"won\"");
    let summary = told::summary(&all, won);
    writeln!(std::io::stdout(), "\n{summary}")?;
    Ok(())
}

fn owed(scene: &Scene) -> u64 {
    let demoted = scene.seen.demoted.load(Ordering::Relaxed);
    demoted.saturating_sub(scene.arrived.verified.load(Ordering::Relaxed))
}

impl Scene {
    fn bound_log(&self, server: &Server) {
        // Somebody may have taken it away.
        let is_long = std::fs::metadata(&self.calls).is_ok_and(|file| file.len() > ANEW);
        if is_long && std::fs::remove_file(&self.calls).is_ok() {
            server.open_anew();
        }
    }

    /// What is cheap to tell: counts alone.
    fn counted(&self) -> Figures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            hedged: load(&self.seen.hedged),
            demoted: load(&self.seen.demoted),
            failed: load(&self.seen.failed),
            verified: load(&self.arrived.verified),
            refused: load(&self.arrived.refused),
            ..Figures::default()
        }
    }

    fn figures(&self) -> Figures {
        Figures {
            straight: self.seen.straight.cumulative().summary(),
            through: self.seen.through.cumulative().summary(),
            ..self.counted()
        }
    }
}

impl Seen {
    /// Counts what a call through the gateway came to.
    fn count(&self, answer: &Response<Bytes>, stream: bool) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let attempts = answer.headers().get("x-shunt-attempts");
        if attempts.is_some_and(|attempts| attempts != "1") {
            add(&self.hedged);
        }
        match answer.status() {
            StatusCode::OK if stream && !is_whole_stream(answer.body()) => add(&self.failed),
            StatusCode::OK => 0,
            StatusCode::ACCEPTED => add(&self.demoted),
            _ => add(&self.failed),
        };
    }
}

fn is_whole_stream(body: &[u8]) -> bool {
    body.ends_with(b"data: [DONE]\n\n")
}

/// One call, straight and through the gateway: the same both ways.
async fn call(scene: Arc<Scene>, count: u64) {
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]});
    let stream = count.is_multiple_of(STREAM_EVERY);
    if stream {
        body["stream"] = json!(true);
    }
    if count.is_multiple_of(SLOW_EVERY) {
        body["metadata"] = json!({"sim_latency_ms": "4000"});
    }
    let path = "/v1/chat/completions";
    let straight = async {
        let began = Instant::now();
        if client::post(scene.provider, path, &[], &body).await.is_ok() {
            scene.seen.straight.record(began.elapsed());
        }
    };
    let through = async {
        let began = Instant::now();
        let headers = [
            ("prefer", "respond-async"),
            ("x-shunt-callback", scene.hook.as_str()),
        ];
        let answer = client::post(scene.gateway, path, &headers, &body).await;
        scene.seen.through.record(began.elapsed());
        match answer {
            Ok(answer) => scene.seen.count(&answer, stream),
            Err(_) => {
                scene.seen.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    tokio::join!(straight, through);
}
