//! 100,000 calls: the exported percentiles against those of the exact values that callers saw.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::rig::{Client, at, gateway, sorted};

const CLIENTS: usize = 400;
const CALLS: usize = 100_000 / CLIENTS;

pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let settings = shunt::simulate::Settings {
        listen: "127.0.0.1:0".parse()?,
        first_token: "lognormal(150ms, 0.5)"
            .parse()
            .map_err(anyhow::Error::msg)?,
        token_gap: "fixed(0ms)".parse().map_err(anyhow::Error::msg)?,
        ..Default::default()
    };
    let simulation = runtime.block_on(shunt::simulate::Simulation::start(settings))?;
    let (server, _folder) = gateway(simulation.address(), "openai", "")?;
    let exact = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let address = server.public;
            clients.spawn(async move {
                let mut client = Client::connect(address).await?;
                let body = Bytes::from_static(br#"{"model":"m","messages":[]}"#);
                let mut took = Vec::with_capacity(CALLS);
                for _ in 0..CALLS {
                    let began = Instant::now();
                    client
                        .whole("/sim/v1/chat/completions", body.clone())
                        .await?;
                    took.push(began.elapsed().as_secs_f64());
                }
                anyhow::Ok(took)
            });
            // One after the other: a burst of connections would wait for the system's accept
            // queue, which callers see and no gateway can measure.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let mut all = Vec::new();
        while let Some(done) = clients.join_next().await {
            all.extend(done??);
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        anyhow::Ok(sorted(all))
    })?;
    let metrics = runtime.block_on(metrics(server.admin))?;
    println!(
        "percentiles of {} calls, exported (5m window) against exact:",
        exact.len()
    );
    for (share, label) in [(0.5, "0.5"), (0.99, "0.99"), (0.999, "0.999")] {
        let wanted = format!("route=\"sim\",phase=\"total\",quantile=\"{label}\",window=\"5m\"");
        let line = metrics.lines().find(|line| line.contains(&wanted));
        let exported: f64 = line
            .and_then(|line| line.rsplit(' ').next())
            .unwrap_or("NaN")
            .parse()?;
        let exact = at(&exact, share);
        println!(
            "  p{:<5} exported {exported:.5} s, exact {exact:.5} s, difference {:+.2}%",
            share * 100.0,
            100.0 * (exported / exact - 1.0)
        );
    }
    server.drain();
    runtime.block_on(simulation.shutdown());
    Ok(())
}

async fn metrics(admin: std::net::SocketAddr) -> Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut connection = tokio::net::TcpStream::connect(admin).await?;
    connection
        .write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n")
        .await?;
    let mut text = String::new();
    connection.read_to_string(&mut text).await?;
    Ok(text)
}
