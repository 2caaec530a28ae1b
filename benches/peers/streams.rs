//! Open streams, so many chunks a second each. Every chunk carries the time it was sent; what the
//! receiver reads later than that is the way through the kernel, the proxy and this process.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Options;
use super::proc::{at, pss};
use super::wire::{call, message};

const STAMP: &[u8] = b"\"sent\":\"";
const DIGITS: usize = 16;

#[derive(Default)]
struct Seen {
    measured: bool,
    /// Microseconds.
    delays: Vec<u32>,
    open: usize,
}

type Shared = Arc<Mutex<Seen>>;

fn locked(seen: &Shared) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

pub async fn run(options: &Options) -> Result<()> {
    let (address, count) = (options.to()?, options.need::<usize>("--count")?);
    let gap = Duration::from_secs_f64(1.0 / options.need::<f64>("--rate")?);
    let zero = Instant::now();
    let source = TcpListener::bind(options.need::<SocketAddr>("--provider")?).await?;
    let mut sources = JoinSet::new();
    sources.spawn(provide(source, gap, zero));
    let process: Option<u32> = options.get("--process")?;
    let memory = || process.map_or(Ok(0.0), pss);
    let idle = memory()?;
    let seen = Shared::default();
    let mut receivers = JoinSet::new();
    for number in 0..count {
        let local = SocketAddr::from(([127, 0, 0, 2 + u8::try_from(number % 4)?], 0));
        receivers.spawn(receive(local, address, seen.clone(), zero));
        // A listener's queue of connections that wait is short.
        if number % 64 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let patience = Instant::now() + Duration::from_mins(1);
    while locked(&seen).open < count {
        if let Some(Ok(Err(error))) = receivers.try_join_next() {
            return Err(error.context("a stream broke while others were opened"));
        }
        ensure!(Instant::now() < patience, "not all streams were opened");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let opened = memory()?;
    locked(&seen).measured = true;
    tokio::time::sleep(options.seconds()?).await;
    locked(&seen).measured = false;
    let after = memory()?;
    ensure!(receivers.try_join_next().is_none(), "a stream ended");
    let mut delays = std::mem::take(&mut locked(&seen).delays);
    delays.sort_unstable();
    println!(
        r#"{{"streams":{count},"chunks":{},"p50":{},"p99":{},"p999":{},"idle":{idle},"opened":{opened},"after":{after}}}"#,
        delays.len(),
        at(&delays, 0.5),
        at(&delays, 0.99),
        at(&delays, 0.999)
    );
    Ok(())
}

async fn provide(listener: TcpListener, gap: Duration, zero: Instant) -> Result<()> {
    let mut streams = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        streams.spawn(async move {
            let mut head = Vec::new();
            if !message(&mut stream, &mut head).await? {
                return Ok(());
            }
            drop(head);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            let mut next = tokio::time::interval(gap);
            loop {
                next.tick().await;
                let sent = zero.elapsed().as_micros();
                let event = format!(
                    "data: {{\"sent\":\"{sent:016}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}]}}\n\n"
                );
                let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                stream.write_all(chunk.as_bytes()).await?;
            }
            #[expect(unreachable_code, reason = "names the block's type")]
            anyhow::Ok(())
        });
    }
}

async fn receive(
    local: SocketAddr,
    address: SocketAddr,
    seen: Shared,
    zero: Instant,
) -> Result<()> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(local)?;
    let mut stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    stream
        .write_all(call(512, true, "").as_bytes())
        .await
        .context("a stream was not asked for")?;
    let mut buffer = Vec::with_capacity(1_024);
    let mut first = true;
    loop {
        let read = stream.read_buf(&mut buffer).await?;
        ensure!(read > 0, "the proxy closed a stream");
        let now = u32::try_from(zero.elapsed().as_micros())?;
        let mut used = 0;
        for at in memchr::memmem::find_iter(&buffer, STAMP) {
            let from = at + STAMP.len();
            let Some(digits) = buffer.get(from..from + DIGITS) else {
                break;
            };
            let sent: u32 = std::str::from_utf8(digits)?.parse()?;
            used = from + DIGITS;
            let mut seen = locked(&seen);
            if std::mem::take(&mut first) {
                seen.open += 1;
            }
            if seen.measured {
                seen.delays.push(now.saturating_sub(sent));
            }
        }
        if used > 0 {
            buffer.drain(..used);
        }
    }
}
