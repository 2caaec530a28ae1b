//! 1,000 random bodies and streams: what arrives is what was sent, and each chunk at once.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::rig::{Client, at, gateway, sorted};

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A provider that streams chunks, each with the time of its sending in its first 8 bytes.
async fn stamping(listener: TcpListener, chunks: usize) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut head = [0u8; 4096];
        while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            for _ in 0..chunks {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                let mut chunk = b"40\r\n".to_vec();
                chunk.extend_from_slice(&now().to_le_bytes());
                chunk.extend_from_slice(&[b'x'; 56]);
                chunk.extend_from_slice(b"\r\n");
                stream.write_all(&chunk).await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
        }
    }
}

pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let simulation = runtime.block_on(shunt::simulate::Simulation::start(
        shunt::simulate::Settings {
            listen: "127.0.0.1:0".parse()?,
            ..Default::default()
        },
    ))?;
    let (server, _folder) = gateway(simulation.address(), "plain", "")?;
    let equal = runtime.block_on(async {
        let mut random = StdRng::seed_from_u64(1);
        let mut straight = Client::connect(simulation.address()).await?;
        let mut through = Client::connect(server.public).await?;
        let mut equal = 0;
        for call in 0..1_000u32 {
            let size = random.random_range(0..100_000usize);
            if call % 2 == 0 {
                let mut body = vec![0u8; size];
                random.fill(&mut body[..]);
                let body = Bytes::from(body);
                let (status, back) = through.whole("/sim/echo", body.clone()).await?;
                ensure!(status == 200 && back == body, "call {call} differs");
            } else {
                let chunk = random.random_range(1..5_000);
                let path = format!("/bytes?size={size}&chunk={chunk}&seed={call}");
                let sent = straight.whole(&path, Bytes::new()).await?;
                let came = through.whole(&format!("/sim{path}"), Bytes::new()).await?;
                ensure!(sent == came, "call {call} differs");
            }
            equal += 1;
        }
        anyhow::Ok(equal)
    })?;
    server.drain();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let (server, _folder) = gateway(listener.local_addr()?, "plain", "")?;
    let delays = runtime.block_on(async {
        let provider = tokio::spawn(stamping(listener, 2_000));
        let mut client = Client::connect(server.public).await?;
        let mut body = client.post("/sim/x", Bytes::new()).await?.into_body();
        let mut delays = Vec::new();
        while let Some(frame) = body.frame().await {
            let came = now();
            let data = frame?.into_data().unwrap_or_default();
            for chunk in data.chunks_exact(64) {
                let sent = u64::from_le_bytes(chunk[..8].try_into()?);
                delays.push((came - sent) as f64 / 1e6);
            }
        }
        provider.abort();
        anyhow::Ok(sorted(delays))
    })?;
    server.drain();
    println!(
        "bytes: {equal} of 1000 random bodies and streams are equal; {} chunks passed on, \
         median {:.3} ms and p99 {:.3} ms after they were sent",
        delays.len(),
        at(&delays, 0.5),
        at(&delays, 0.99)
    );
    runtime.block_on(simulation.shutdown());
    Ok(())
}
