//! The whole product on loopback, with no keys: providers with a heavy tail, a gateway, a receiver
//! of callbacks and steady traffic; a table of what changes.
//!
//! Promises: everything runs the code that `serve` runs; what it made is gone when it ends.

mod client;
mod receiver;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use serde_json::json;
use tokio::time::{Instant, interval};

use self::receiver::Arrived;
use crate::cold::callback::Signer;
use crate::config::{self, Secret};
use crate::latency::{Series, Summary};
use crate::server::Server;
use crate::simulate::{Settings, Simulation};
use crate::tasks::Tasks;

/// Calls a second, straight and through Shunt each.
const RATE: u32 = 40;

/// One call in so many takes far longer than its budget.
const SLOW_EVERY: u64 = 40;

/// Flags of `shunt demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// End after so many seconds; without it, at Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
}

/// What the demo's apps saw.
struct Seen {
    straight: Series,
    through: Series,
    calls: AtomicU64,
    demoted: AtomicU64,
    failed: AtomicU64,
}

struct Scene {
    seen: Seen,
    provider: SocketAddr,
    gateway: SocketAddr,
    hook: String,
    arrived: Arc<Arrived>,
}

/// A folder that is gone when the demo ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
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
"#
    )
}

/// Runs the demo.
///
/// # Errors
/// No port is free, or the temporary folder cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("shunt-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let folder = Folder(folder);
    let key: [u8; 32] = rand::random();
    let secret = format!(
        "whsec_{}",
        base64::engine::general_purpose::STANDARD.encode(key)
    );
    std::fs::write(folder.0.join("secret"), &secret)?;
    let signer = Signer::new(&[Secret::new(secret)]).map_err(|why| anyhow::anyhow!(why))?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
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
            calls: AtomicU64::new(0),
            demoted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        },
        provider: simulation.address(),
        gateway: server.public,
        hook: format!("http://{hook}/hook"),
        arrived,
    });
    introduce(&server, &scene)?;
    runtime.block_on(play(
        &scene,
        &tasks,
        arguments.seconds.map(Duration::from_secs),
        &server,
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
    writeln!(
        std::io::stdout(),
        "Shunt demo: {RATE} calls a second, straight to a simulated provider and through Shunt.\n\
         One call in 20 meets the provider's tail (1.2 s instead of 0.12 s); one in {SLOW_EVERY} takes 4 s,\n\
         past the route's budget of 1.5 s, and becomes a job with a signed callback.\n\n  \
         gateway   http://{}/v1/chat/completions\n  \
         metrics   http://{}/metrics\n  \
         routes    http://{}/api/routes\n  \
         provider  http://{}/stats\n",
        server.public,
        server.admin,
        server.admin,
        scene.provider
    )?;
    Ok(())
}

/// Traffic at a constant rate, and a line each second; then the summary.
async fn play(
    scene: &Arc<Scene>,
    tasks: &Tasks,
    limit: Option<Duration>,
    server: &Server,
) -> Result<()> {
    let began = Instant::now();
    let mut calls = interval(Duration::from_secs(1) / RATE);
    let mut second = interval(Duration::from_secs(1));
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let mut count = 0;
    loop {
        tokio::select! {
            _ = &mut stop => break,
            _ = calls.tick() => {
                if limit.is_some_and(|limit| began.elapsed() >= limit) {
                    break;
                }
                count += 1;
                tasks.spawn(call(scene.clone(), count));
            }
            _ = second.tick() => {
                let line = line(scene);
                write!(std::io::stdout(), "\r{line}")?;
                std::io::stdout().flush()?;
            }
        }
    }
    // The last callbacks are still on their way.
    let patience = Instant::now() + Duration::from_secs(6);
    while owed(scene) > 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    writeln!(std::io::stdout(), "\n\n{}", summary(scene, server))?;
    Ok(())
}

fn owed(scene: &Scene) -> u64 {
    let demoted = scene.seen.demoted.load(Ordering::Relaxed);
    demoted.saturating_sub(scene.arrived.verified.load(Ordering::Relaxed))
}

async fn call(scene: Arc<Scene>, count: u64) {
    let slow = count.is_multiple_of(SLOW_EVERY);
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]});
    if slow {
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
        scene.seen.calls.fetch_add(1, Ordering::Relaxed);
        match answer.map(|answer| answer.status().as_u16()) {
            Ok(200) => {}
            Ok(202) => {
                scene.seen.demoted.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                scene.seen.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        scene.seen.through.record(began.elapsed());
    };
    tokio::join!(straight, through);
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn line(scene: &Scene) -> String {
    let of = |series: &Series| series.cumulative().summary();
    let (straight, through) = (of(&scene.seen.straight), of(&scene.seen.through));
    format!(
        "straight p50 {} p99 {}   through Shunt p50 {} p99 {}   demoted {}   callbacks verified {}   ",
        seconds(straight.p50),
        seconds(straight.p99),
        seconds(through.p50),
        seconds(through.p99),
        scene.seen.demoted.load(Ordering::Relaxed),
        scene.arrived.verified.load(Ordering::Relaxed),
    )
}

fn summary(scene: &Scene, server: &Server) -> String {
    let hedges = server.counter_sum("shunt_hedges_total", "result=\"won\"");
    let row = |name: &str, all: Summary| {
        format!(
            "{name:<16}{:>8}{:>10}{:>10}{:>10}\n",
            all.count,
            seconds(all.p50),
            seconds(all.p95),
            seconds(all.p99)
        )
    };
    let mut text = format!(
        "{:<16}{:>8}{:>10}{:>10}{:>10}\n",
        "", "calls", "p50", "p95", "p99"
    );
    text += &row("straight", scene.seen.straight.cumulative().summary());
    text += &row("through Shunt", scene.seen.through.cumulative().summary());
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\nhedges won {hedges}, calls demoted {}, callbacks received and verified {}, refused {}, \
         failed calls {}",
        load(&scene.seen.demoted),
        load(&scene.arrived.verified),
        load(&scene.arrived.refused),
        load(&scene.seen.failed),
    );
    text
}
