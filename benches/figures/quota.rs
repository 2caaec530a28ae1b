//! Hot before cold: a quota of 100 requests a second, 1,000 jobs, and hot calls at 60 a second,
//! against the same hot calls alone.

use std::net::SocketAddr;
use std::sync::mpsc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use shunt::simulate::{Distribution, QuotaSettings, Settings, Simulation};
use tokio::task::JoinSet;

use super::behave::arrive;
use super::rig::{Client, at, gateway, sorted};

const QUOTA: u32 = 100;
const RATE: u32 = 60;
const SECONDS: u32 = 13;
const JOBS: usize = 1_000;

/// Connections over which the jobs come.
const SENDERS: usize = 4;

/// One round: what the provider tells, what is kept for hot calls, and how many jobs there are.
struct Round {
    name: &'static str,
    headers: bool,
    reserve: f64,
    jobs: usize,
}

const ROUNDS: [Round; 4] = [
    Round {
        name: "hot calls alone",
        headers: true,
        reserve: 0.3,
        jobs: 0,
    },
    Round {
        name: "with jobs, told by headers",
        headers: true,
        reserve: 0.3,
        jobs: JOBS,
    },
    Round {
        name: "with jobs, told by 429s only",
        headers: false,
        reserve: 0.3,
        jobs: JOBS,
    },
    Round {
        name: "with jobs, nothing kept for hot calls",
        headers: true,
        reserve: 0.0,
        jobs: JOBS,
    },
];

pub fn run() -> Result<()> {
    println!(
        "quota {QUOTA} requests a second, {RATE} hot calls a second for {SECONDS} s, {JOBS} jobs"
    );
    ROUNDS.iter().try_for_each(one)
}

/// A provider on a thread of its own, until the process ends.
fn provide(headers: bool) -> Result<SocketAddr> {
    let settings = Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        first_token: Distribution::Lognormal(0.1, 0.3),
        token_gap: Distribution::Fixed(0.002),
        tokens: 4,
        quota: QuotaSettings {
            requests: QUOTA,
            headers,
        },
        ..Settings::default()
    };
    let (told, address) = mpsc::channel();
    std::thread::Builder::new()
        .name("provider".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let simulation = Simulation::start(settings).await?;
                told.send(simulation.address())?;
                std::future::pending::<()>().await;
                anyhow::Ok(())
            })
        })?;
    address.recv().context("the provider did not start")
}

async fn queue(address: SocketAddr, jobs: usize) -> Result<()> {
    let body = Bytes::from_static(br#"{"model":"m","messages":[]}"#);
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let body = body.clone();
        senders.spawn(async move {
            let mut client = Client::connect(address).await?;
            for _ in 0..jobs / SENDERS {
                let path = "/v1/chat/completions";
                let later = "respond-async, wait=0";
                let answer = client.with(path, "prefer", later, body.clone()).await?;
                ensure!(answer.status() == 202, "a job was not taken");
                answer.into_body().collect().await?;
            }
            Ok(())
        });
    }
    while let Some(done) = senders.join_next().await {
        done??;
    }
    Ok(())
}

fn one(round: &Round) -> Result<()> {
    let provider = provide(round.headers)?;
    let route = format!(
        "quota = {{ reserve_for_hot = {:?} }}\n[[routes]]\nname = \"chat\"\n\
         match = {{ path = \"/v1/chat/completions\" }}\ntargets = [\"sim\"]\n",
        round.reserve
    );
    let (server, _folder) = gateway(provider, "openai", &route)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let hot = arrive(server.public, RATE, SECONDS);
    let (calls, queued) =
        runtime.block_on(async { tokio::join!(hot, queue(server.public, round.jobs)) });
    let calls = calls?;
    queued?;
    let finished = server.counter_sum("shunt_job_attempts_total", "result=\"succeeded\"");
    let refused = server.counter_sum("shunt_job_attempts_total", "result=\"rate_limited\"");
    let again = server.counter_sum("shunt_retries_total", "reason=\"429\"");
    let errors = calls.iter().filter(|one| one.status != 200).count();
    let took = sorted(calls.iter().map(|one| one.took * 1e3).collect());
    println!(
        "{}: hot p50 {:.0} ms, p99 {:.0} ms, {errors} of {} hot calls failed, {again} were sent \
         again after a 429; {:.1} jobs finished a second, {refused} were put off by a 429",
        round.name,
        at(&took, 0.5),
        at(&took, 0.99),
        calls.len(),
        finished as f64 / f64::from(SECONDS)
    );
    ensure!(server.drain() == 0, "tasks were left after the drain");
    Ok(())
}
