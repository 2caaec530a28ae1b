//! Calls at constant rates, spread over the gateways that live: cold ones that are demoted, and hot
//! ones that need no store.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;

use super::house::House;
use super::provider::{TAG, TAKES};
use crate::rig::Client;

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A 202 with this job.
    Accepted(String),
    /// A whole answer of another status.
    Answered(u16),
    /// The connection broke, or could not be made.
    Broken,
    /// Nothing for ten seconds.
    Silent,
    /// No gateway lived.
    Nobody,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Sent {
    pub tag: u32,
    pub gateway: usize,
    pub due: Instant,
    /// What it was given before it becomes a job.
    pub budget: Duration,
    pub ended: Instant,
    pub what: What,
}

/// Who the callers are; a job is theirs only.
pub const CALLER: &str = "Bearer storm";

const SILENCE: Duration = Duration::from_secs(10);

/// The budget of those that run when they are demoted.
const BUDGET: Duration = Duration::from_millis(100);

/// Connections that rest between calls, by where they lead.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<SocketAddr, Vec<Client>>>>);

impl Connections {
    /// Sends a request on a connection that rests, or on a new one.
    ///
    /// # Errors
    /// It broke, or could not be made.
    pub async fn send(
        &self,
        to: SocketAddr,
        request: Request<Full<Bytes>>,
    ) -> Result<(u16, Bytes)> {
        let rested = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = {
            let mut rested = rested();
            let all = rested.entry(to).or_default();
            loop {
                match all.pop() {
                    Some(client) if client.is_closed() => {}
                    taken => break taken,
                }
            }
        };
        let mut client = match taken {
            Some(client) => client,
            None => Client::connect(to).await?,
        };
        let told = client.request(request).await?;
        rested().entry(to).or_default().push(client);
        Ok(told)
    }

    /// Gets a page.
    ///
    /// # Errors
    /// The same.
    pub async fn get(&self, to: SocketAddr, path: &str) -> Result<(u16, Bytes)> {
        let request = Request::get(path)
            .header("host", to.to_string())
            .header("authorization", CALLER)
            .body(Full::default())?;
        self.send(to, request).await
    }
}

/// Which calls are sent.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Every second one is queued at once, the others are demoted while they run.
    Cold { hook: SocketAddr },
    /// A few milliseconds at the provider, and no opt-in.
    Hot,
}

impl Kind {
    fn budget(self, tag: u32) -> Duration {
        match self {
            Self::Cold { .. } if tag.is_multiple_of(2) => Duration::ZERO,
            _ => BUDGET,
        }
    }

    fn request(self, tag: u32, to: SocketAddr) -> Result<Request<Full<Bytes>>> {
        let request = Request::post("/v1/chat/completions")
            .header("host", to.to_string())
            .header("content-type", "application/json")
            .header("authorization", CALLER);
        let (request, model) = match self {
            Self::Hot => (request.header(TAKES, 20), "hot"),
            Self::Cold { hook } => {
                let takes = 150 + tag.wrapping_mul(7_919) % 550;
                let request = request
                    .header(TAG, tag)
                    .header(TAKES, takes)
                    .header("x-shunt-callback", format!("http://{hook}/hook/{tag}"));
                let queued = self.budget(tag).is_zero();
                let request = if queued {
                    request.header("prefer", "respond-async, wait=0")
                } else {
                    let budget = format!("{}ms", BUDGET.as_millis());
                    request
                        .header("prefer", "respond-async")
                        .header("x-shunt-budget", budget)
                };
                (request, "gpt-4o")
            }
        };
        let body =
            format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}]}}"#);
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }
}

async fn call(kind: Kind, tag: u32, to: SocketAddr, connections: Connections) -> Result<What> {
    let request = kind.request(tag, to)?;
    let sent = tokio::time::timeout(SILENCE, connections.send(to, request));
    Ok(match sent.await {
        Err(_) => What::Silent,
        Ok(Err(_)) => What::Broken,
        Ok(Ok((202, body))) => {
            let job: serde_json::Value = serde_json::from_slice(&body)?;
            What::Accepted(job["id"].as_str().unwrap_or_default().to_owned())
        }
        Ok(Ok((status, _))) => What::Answered(status),
    })
}

/// Calls of one kind at a constant rate for so many seconds, whatever is answered.
///
/// # Errors
/// An answer that is none.
pub async fn arrive(kind: Kind, rate: u32, seconds: u32, house: Arc<House>) -> Result<Vec<Sent>> {
    let connections = Connections::default();
    let began = Instant::now();
    let mut under = JoinSet::new();
    let mut all = Vec::new();
    for tag in 0..rate * seconds {
        let due = began + Duration::from_secs(1) * tag / rate;
        tokio::time::sleep_until(due.into()).await;
        let living = house.living();
        let budget = kind.budget(tag);
        let Some(to) = living.get(tag as usize % living.len().max(1)).copied() else {
            all.push(Sent {
                tag,
                gateway: usize::MAX,
                due,
                budget,
                ended: due,
                what: What::Nobody,
            });
            continue;
        };
        let connections = connections.clone();
        under.spawn(async move {
            let what = call(kind, tag, to.public, connections).await?;
            anyhow::Ok(Sent {
                tag,
                gateway: to.gateway,
                due,
                budget,
                ended: Instant::now(),
                what,
            })
        });
        while let Some(done) = under.try_join_next() {
            all.push(done??);
        }
    }
    while let Some(done) = under.join_next().await {
        all.push(done??);
    }
    Ok(all)
}
