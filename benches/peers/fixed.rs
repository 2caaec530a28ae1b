//! Calls at a fixed rate, each timed from the moment it was due: a proxy that stalls is charged for
//! all that should have been sent meanwhile. Load and provider are one thread that never sleeps, so
//! that no proxy pays for waking them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::Options;
use super::proc::at;
use super::wire::{call, instant, message};

type Due = Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>;

/// Says what the calls took, in microseconds, as JSON.
pub async fn run(options: &Options) -> Result<()> {
    let address = options.to()?;
    let rate: f64 = options.need("--rate")?;
    let mut tasks = JoinSet::new();
    if let Some(provider) = options.get::<SocketAddr>("--provider")? {
        let size = options.get("--answer")?.unwrap_or(1_024);
        tasks.spawn(instant(TcpListener::bind(provider).await?, size));
    }
    let (told, due) = mpsc::unbounded_channel();
    let due = Arc::new(Mutex::new(due));
    let mut callers = JoinSet::new();
    for _ in 0..options.get("--connections")?.unwrap_or(64) {
        callers.spawn(caller(address, due.clone()));
    }
    let warm = Duration::from_secs_f64(options.get("--warm")?.unwrap_or(2.0));
    let began = Instant::now();
    let end = warm + options.seconds()?;
    let mut number = 0u32;
    loop {
        let next = Duration::from_secs_f64(f64::from(number) / rate);
        if next >= end {
            break;
        }
        if began.elapsed() >= next {
            told.send(began + next)?;
            number += 1;
        } else {
            tokio::task::yield_now().await;
        }
    }
    drop(told);
    let mut took = Vec::new();
    while let Some(done) = callers.join_next().await {
        let measured = done??.into_iter().filter(|one| one.0 >= began + warm);
        took.extend(measured.map(|(_, took)| took.as_secs_f64() * 1e6));
    }
    took.sort_by(f64::total_cmp);
    println!(
        r#"{{"calls":{},"p50":{:.1},"p90":{:.1},"p99":{:.1},"p999":{:.1},"max":{:.1}}}"#,
        took.len(),
        at(&took, 0.5),
        at(&took, 0.9),
        at(&took, 0.99),
        at(&took, 0.999),
        at(&took, 1.0)
    );
    Ok(())
}

async fn caller(address: SocketAddr, due: Due) -> Result<Vec<(Instant, Duration)>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = call(1_024, false, "");
    let (mut buffer, mut took) = (Vec::new(), Vec::new());
    loop {
        let next = due.lock().await.recv().await;
        let Some(due) = next else {
            return Ok(took);
        };
        one(&mut stream, &request, &mut buffer).await?;
        took.push((due, due.elapsed()));
    }
}

async fn one(stream: &mut TcpStream, request: &str, buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(request.as_bytes()).await?;
    ensure!(message(stream, buffer).await?, "the proxy closed");
    ensure!(buffer.starts_with(b"HTTP/1.1 200"), "the proxy failed");
    Ok(())
}

/// So many calls, no more and no fewer, over 16 connections; then rests until `--seconds` are over.
/// Two such runs differ by their calls alone.
pub async fn count(options: &Options) -> Result<()> {
    const CONNECTIONS: u64 = 16;
    let (address, calls) = (options.to()?, options.need::<u64>("--calls")?);
    let end = tokio::time::Instant::now() + options.seconds()?;
    let provider = TcpListener::bind(options.need::<SocketAddr>("--provider")?).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(instant(provider, 1_024));
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        callers.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (request, mut buffer) = (call(1_024, false, ""), Vec::new());
            for _ in 0..calls / CONNECTIONS {
                one(&mut stream, &request, &mut buffer).await?;
            }
            anyhow::Ok(stream)
        });
    }
    let mut open = Vec::new();
    while let Some(done) = callers.join_next().await {
        open.push(done??);
    }
    ensure!(tokio::time::Instant::now() < end, "--seconds is too short");
    tokio::time::sleep_until(end).await;
    Ok(())
}
