//! Snapshots of a gateway as they come; what is wrong, where none come.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use crate::jobs::reach::Reach;
use crate::observe::live::Snapshot;
use crate::tasks::Tasks;

/// What is heard of a gateway.
pub enum Update {
    /// How it stands.
    Snapshot(Box<Snapshot>),
    /// Why nothing is heard.
    Away(String),
}

/// Wait before a gateway that is away is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// A gateway tells something each second; one that is silent for so long is away.
const SILENCE: Duration = Duration::from_secs(6);

/// Longest event that is read, and longest error.
const LONGEST: usize = 8 << 20;
const LONGEST_ERROR: usize = 4 << 10;

/// Follows a gateway until nobody listens.
pub async fn follow(reach: Reach, updates: Sender<Update>, tasks: Tasks) {
    loop {
        let Err(why) = read(&reach, &updates, &tasks).await else {
            return;
        };
        if updates
            .send(Update::Away(format!("{why:#}")))
            .await
            .is_err()
        {
            return;
        }
        sleep(AGAIN).await;
    }
}

/// Reads one stream to its end, which is an error but where nobody listens any more.
async fn read(reach: &Reach, updates: &Sender<Update>, tasks: &Tasks) -> Result<()> {
    let asked = timeout(SILENCE, ask(reach, tasks)).await;
    let mut body = asked.map_err(|_| silent(reach))??;
    let mut events = Events::default();
    loop {
        let frame = timeout(SILENCE, body.frame()).await;
        let Some(frame) = frame.map_err(|_| silent(reach))? else {
            bail!("{} ended its stream; it may be stopping", reach.admin);
        };
        let Ok(data) = frame.with_context(|| reach.away())?.into_data() else {
            continue;
        };
        for snapshot in events.read(&data)? {
            if updates
                .send(Update::Snapshot(Box::new(snapshot)))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
    }
}

fn silent(reach: &Reach) -> anyhow::Error {
    let (admin, seconds) = (&reach.admin, SILENCE.as_secs());
    anyhow!("{admin} says nothing for {seconds} s")
}

async fn ask(reach: &Reach, tasks: &Tasks) -> Result<hyper::body::Incoming> {
    let (stream, host) = reach.connect().await?;
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, driver) = shaken.with_context(|| reach.away())?;
    // How it ends is seen by whoever reads the body.
    tasks.spawn(async { drop(driver.await) });
    let mut request = Request::get("/api/live").header("host", host);
    if let Some(token) = reach.token()? {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = sender
        .send_request(request)
        .await
        .with_context(|| reach.away())?;
    let (head, body) = answer.into_parts();
    let kind = head.headers.get("content-type");
    if head.status.is_success() && kind.is_some_and(|kind| kind == "text/event-stream") {
        return Ok(body);
    }
    let says = Limited::new(body, LONGEST_ERROR).collect().await;
    let says = says
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let says = String::from_utf8_lossy(&says);
    match says.trim() {
        // The admin listener says sentences; a public one says JSON.
        says if !head.status.is_success() && !says.is_empty() && !says.starts_with(['{', '<']) => {
            bail!(
                "{}",
                says.replace("`shunt jobs` takes", "`shunt top` takes")
            )
        }
        _ => bail!(
            "{} is no admin listener of a gateway of this version; name it with --admin",
            reach.admin
        ),
    }
}

/// Server-sent events that came in part.
#[derive(Default)]
struct Events(Vec<u8>);

impl Events {
    /// The snapshots that these bytes complete; other events are overlooked.
    fn read(&mut self, bytes: &[u8]) -> Result<Vec<Snapshot>> {
        self.0.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(end) = memchr::memmem::find(&self.0, b"\n\n") {
            let event: Vec<u8> = self.0.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            if line("event:").is_some_and(|name| name.trim() == "snapshot") {
                let data = line("data:").unwrap_or_default();
                let snapshot = serde_json::from_str(data);
                found.push(snapshot.context("the gateway is of another version")?);
            }
        }
        if self.0.len() > LONGEST {
            bail!(
                "the gateway sent an event of more than {} MiB",
                LONGEST >> 20
            );
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::snapshot;
    use super::*;

    #[test]
    fn snapshots_are_read_however_they_are_cut_and_other_events_are_overlooked() {
        let one = serde_json::to_string(&snapshot()).unwrap();
        let text = format!(": hi\n\nevent: detail\ndata: {{}}\n\nevent: snapshot\ndata: {one}\n\n");
        for size in [1, 7, 1_000, text.len()] {
            let mut events = Events::default();
            let cut = text.as_bytes().chunks(size);
            let found: Vec<_> = cut.flat_map(|part| events.read(part).unwrap()).collect();
            assert_eq!(found, [snapshot()]);
        }
        assert!(
            Events::default()
                .read(b"event: snapshot\ndata: {}\n\n")
                .is_err()
        );
    }
}
