//! 500 demotions a second on each store: how long after its budget a call has its 202.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;

use super::KEYS;
use super::behave::{Providers, Rested, connect, rest};
use super::rig::{at, sorted, start_on};
use super::stored::{Stored, url};

const RATE: u32 = 500;
const SECONDS: u32 = 60;
const BUDGET: Duration = Duration::from_millis(100);
/// How long a provider takes: what is demoted runs on and is stored.
const TAKES: Duration = Duration::from_millis(300);
/// The latest p99 of a 202 after its budget, in milliseconds.
const LATEST: f64 = 15.0;

const ROUTE: &str = r#"
[[routes]]
name    = "chat"
match   = { path = "/v1/chat/completions" }
targets = ["sim"]
budget  = { first_token = "100ms", total = "100ms" }
retries = { max = 0 }
predict = { floor = 0 }
"#;

pub fn run(arguments: &[String]) -> Result<()> {
    Stored::asked(arguments).into_iter().try_for_each(one)
}

fn one(store: Stored) -> Result<()> {
    let cluster = store.cluster()?;
    let folder = tempfile::tempdir()?;
    let url = url(cluster.as_ref(), folder.path());
    let providers = Providers::start(1, Arc::new(|_, _| (TAKES, 200)))?;
    let provider = providers.addresses[0];
    let further = format!(
        "queue_limit = 100000\nseal_keys_env = \"{KEYS}\"\n[providers.sim]\nbase_url = \"http://{provider}\"\n{ROUTE}"
    );
    let server = start_on(&url, &further)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let late = runtime.block_on(arrive(server.public))?;
    // What was accepted is run and stored while the gateway drains.
    ensure!(server.drain() == 0, "tasks were left after the drain");
    ensure!(
        providers.total() == u64::from(RATE * SECONDS),
        "the provider saw {} calls",
        providers.total()
    );
    let late = sorted(late);
    let (p50, p99) = (at(&late, 0.5), at(&late, 0.99));
    println!(
        "demote, {store}: {} of {} calls at {RATE} a second had their 202; after their budget of {} ms: p50 {p50:+.1} ms, p99 {p99:+.1} ms, p99.9 {:+.1} ms, max {:+.1} ms",
        late.len(),
        RATE * SECONDS,
        BUDGET.as_millis(),
        at(&late, 0.999),
        at(&late, 1.0)
    );
    ensure!(
        p99 < LATEST,
        "p99 is {p99:.1} ms after the budget, over {LATEST} ms"
    );
    Ok(())
}

/// Calls at a constant rate; how long after its budget each had its 202, in milliseconds.
async fn arrive(address: std::net::SocketAddr) -> Result<Vec<f64>> {
    let rested = Rested::default();
    let body = Bytes::from_static(br#"{"model":"m","messages":[]}"#);
    let began = Instant::now() + Duration::from_millis(100);
    let mut under = JoinSet::new();
    let mut late = Vec::new();
    for number in 0..RATE * SECONDS {
        let due = began + Duration::from_secs(1) * number / RATE;
        tokio::time::sleep_until(due.into()).await;
        let (rested, body) = (rested.clone(), body.clone());
        under.spawn(async move {
            let mut client = connect(&rested, address).await?;
            let request = Request::post("/v1/chat/completions")
                .header("host", address.to_string())
                .header("content-type", "application/json")
                .header("prefer", "respond-async")
                .body(Full::new(body))?;
            let (status, _) = client.request(request).await?;
            let took = due.elapsed();
            rest(&rested, client);
            ensure!(status == 202, "a call had {status}");
            anyhow::Ok((took.as_secs_f64() - BUDGET.as_secs_f64()) * 1e3)
        });
        while let Some(done) = under.try_join_next() {
            late.push(done??);
        }
    }
    while let Some(done) = under.join_next().await {
        late.push(done??);
    }
    Ok(late)
}
