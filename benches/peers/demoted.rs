//! Calls whose provider does not answer: each has its 202, and waits at the gateway.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Options;
use super::proc::pss;
use super::wire::{call, message};

/// Callers at once.
const CALLERS: usize = 200;
const BODY: usize = 4_096;

pub async fn run(options: &Options) -> Result<()> {
    let (address, count) = (options.to()?, options.need::<usize>("--count")?);
    let process: u32 = options.need("--process")?;
    let listener = TcpListener::bind(options.need::<SocketAddr>("--provider")?).await?;
    let mut provider = JoinSet::new();
    provider.spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let idle = pss(process)?;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let (request, mut buffer) =
                (call(BODY, false, "prefer: respond-async\r\n"), Vec::new());
            for number in 0..count / CALLERS {
                stream.write_all(request.as_bytes()).await?;
                let answered = message(&mut stream, &mut buffer).await?;
                ensure!(answered, "the gateway closed");
                let status = String::from_utf8_lossy(buffer.get(9..12).context("a status")?);
                ensure!(status == "202", "call {number} had {status}");
            }
            Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let waiting = pss(process)?;
    tokio::time::sleep(options.seconds()?).await;
    println!(
        r#"{{"demoted":{count},"body":{BODY},"idle":{idle},"opened":{waiting},"after":{}}}"#,
        pss(process)?
    );
    Ok(())
}
