//! 5% of the provider's calls are ten times slower: what hedging makes of the p99, at what cost,
//! and when the provider sees that a loser was given up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rig::{Client, at, calls, gateway, sorted};

const RATE: u32 = 100;
const SECONDS: u32 = 20;
/// Calls before the figure: the delay is learned from them.
const WARM_UP: u32 = 5 * RATE;

/// The bucket may have saved 10 hedges before the measured calls: 4.5% of them and these 10 are 5%.
const ROUTE: &str = r#"
[[routes]]
name    = "chat"
match   = { path = "/v1/chat/completions" }
targets = ["sim"]
hedge   = { after = "50ms", max_extra = 0.045, min_samples = 100 }
"#;

pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let settings = shunt::simulate::Settings {
        listen: "127.0.0.1:0".parse()?,
        first_token: "bimodal(40ms, 400ms, 0.05)"
            .parse()
            .map_err(anyhow::Error::msg)?,
        token_gap: "fixed(2ms)".parse().map_err(anyhow::Error::msg)?,
        tokens: 20,
        ..Default::default()
    };
    let simulation = runtime.block_on(shunt::simulate::Simulation::start(settings))?;
    let provider = simulation.address();
    let straight = sorted(runtime.block_on(load(provider, "straight", RATE * SECONDS))?);
    let (server, _folder) = gateway(provider, "openai", ROUTE)?;
    runtime.block_on(load(server.public, "warm", WARM_UP))?;
    // The delay is learned once a second.
    std::thread::sleep(Duration::from_millis(1_500));
    let through = sorted(runtime.block_on(load(server.public, "shunt", RATE * SECONDS))?);
    let seen = runtime.block_on(calls(provider))?;
    println!(
        "first token p99: {:.0} ms straight, {:.0} ms through Shunt; p50 {:.0} and {:.0} ms",
        at(&straight, 0.99) * 1e3,
        at(&through, 0.99) * 1e3,
        at(&straight, 0.5) * 1e3,
        at(&through, 0.5) * 1e3
    );
    report(&seen)?;
    let left = server.drain();
    ensure!(left == 0, "{left} tasks were left after the drain");
    runtime.block_on(simulation.shutdown());
    Ok(())
}

/// Streams at a constant rate, each tagged; gives seconds to each first token.
async fn load(address: SocketAddr, name: &'static str, count: u32) -> Result<Vec<f64>> {
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for call in 0..count {
        let due = began + Duration::from_secs(1) / RATE * call;
        tokio::time::sleep_until(due).await;
        callers.spawn(async move {
            let mut client = Client::connect(address).await?;
            let tag = format!("{name}-{call}");
            let asked = br#"{"model":"m","messages":[],"stream":true}"#;
            let sent = client.tagged("/v1/chat/completions", &tag, asked[..].into());
            let mut body = sent.await?.into_body();
            let mut first = None;
            while let Some(frame) = body.frame().await {
                let frame = frame?;
                if frame.data_ref().is_some_and(|data| has_content(data)) {
                    first.get_or_insert_with(|| due.elapsed());
                }
            }
            anyhow::Ok(first)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = callers.join_next().await {
        let first = done??;
        took.push(first.map_or(f64::NAN, |first| first.as_secs_f64()));
    }
    ensure!(took.iter().all(|one| one.is_finite()), "a stream was empty");
    Ok(took)
}

/// Whether a chunk has text: the first has only a role and an empty text.
fn has_content(chunk: &[u8]) -> bool {
    let text = b"\"content\":\"";
    memchr::memmem::find_iter(chunk, text).any(|at| chunk.get(at + text.len()) != Some(&b'"'))
}

/// What the provider saw of the calls through Shunt.
fn report(seen: &serde_json::Value) -> Result<()> {
    let mut winners = HashMap::new();
    let mut losers = Vec::new();
    for call in seen.as_array().into_iter().flatten() {
        let tag = call["tag"].as_str().unwrap_or_default();
        if !tag.starts_with("shunt-") {
            continue;
        }
        let ended = call["ended_us"].as_u64().unwrap_or_default();
        if call["aborted"] == true {
            losers.push((tag, ended));
        } else if let Some(first) = call["first_token_us"].as_u64() {
            winners.insert(tag, first);
        }
    }
    let lags = losers.iter().filter_map(|(tag, ended)| {
        let first = winners.get(tag)?;
        Some((*ended as f64 - *first as f64).max(0.0) / 1e3)
    });
    let lags = sorted(lags.collect());
    ensure!(lags.len() == losers.len(), "a loser has no winner");
    ensure!(!lags.is_empty(), "nothing was hedged");
    println!(
        "{} calls, {} of them twice ({:.1}% more); losers aborted after the winner's first token: \
         median {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        winners.len(),
        losers.len(),
        losers.len() as f64 / winners.len() as f64 * 100.0,
        at(&lags, 0.5),
        at(&lags, 0.99),
        at(&lags, 1.0)
    );
    Ok(())
}
