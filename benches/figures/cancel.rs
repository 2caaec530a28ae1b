//! 1,000 callers leave at random moments: when does the provider see it?

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::rig::{Client, at, calls, gateway, sorted};

fn micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let settings = shunt::simulate::Settings {
        listen: "127.0.0.1:0".parse()?,
        first_token: "fixed(100ms)".parse().map_err(anyhow::Error::msg)?,
        token_gap: "fixed(50ms)".parse().map_err(anyhow::Error::msg)?,
        tokens: 1_000,
        ..Default::default()
    };
    let simulation = runtime.block_on(shunt::simulate::Simulation::start(settings))?;
    for protocol in ["http1", "http2"] {
        let extra = format!("protocol = \"{protocol}\"\n");
        let (server, _folder) = gateway(simulation.address(), "openai", &extra)?;
        let took = runtime.block_on(leave(&server, simulation.address()))?;
        println!(
            "cancel over {protocol}: the provider saw {} of 1000 aborts, median {:.1} ms, p99 {:.1} ms, \
             max {:.1} ms after the caller left",
            took.len(),
            at(&took, 0.5),
            at(&took, 0.99),
            at(&took, 1.0)
        );
        let left = server.drain();
        ensure!(left == 0, "{left} tasks were left after the drain");
    }
    runtime.block_on(simulation.shutdown());
    Ok(())
}

async fn leave(server: &shunt::server::Server, provider: std::net::SocketAddr) -> Result<Vec<f64>> {
    let mut asked = Client::connect(provider).await?;
    asked.whole("/reset", Bytes::new()).await?;
    let mut random = StdRng::seed_from_u64(3);
    let mut callers = JoinSet::new();
    for call in 0..1_000u32 {
        let stay = Duration::from_micros(random.random_range(30_000..600_000));
        let (stream, address) = (call % 2 == 0, server.public);
        callers.spawn(async move {
            let body = format!(r#"{{"model":"m","messages":[],"stream":{stream}}}"#);
            let head = format!(
                "POST /sim/v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-tag: {call}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut connection = TcpStream::connect(address).await?;
            connection.write_all(head.as_bytes()).await?;
            tokio::time::sleep(stay).await;
            drop(connection);
            anyhow::Ok((call, micros()))
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut left = HashMap::new();
    while let Some(done) = callers.join_next().await {
        let (call, at) = done??;
        left.insert(call.to_string(), at);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let calls = calls(provider).await?;
    let mut took = Vec::new();
    for call in calls.as_array().into_iter().flatten() {
        let tag = call["tag"].as_str().unwrap_or_default();
        if call["aborted"] == true
            && let (Some(left), Some(seen)) = (left.get(tag), call["ended_us"].as_u64())
        {
            took.push((seen as f64 - *left as f64).max(0.0) / 1e3);
        }
    }
    Ok(sorted(took))
}
