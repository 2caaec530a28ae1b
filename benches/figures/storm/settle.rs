//! Waits for the storm's jobs to end, and asks for each of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::callers::{Connections, Sent};
use super::house::House;
use super::ledger::accepted;
use super::receiver::Receiver;

/// What gateways say of a job.
#[derive(Clone, Debug)]
pub struct Found {
    pub status: String,
    /// The provider's id of its answer.
    pub answer: Option<String>,
    /// What its object says of its callback.
    pub callback: String,
    /// Whether two reads through two gateways differed.
    pub changed: bool,
}

impl Found {
    pub fn is_final(&self) -> bool {
        !matches!(self.status.as_str(), "queued" | "running")
    }
}

/// Waits until every accepted job was called back, or for so long. Gives how long it took.
pub async fn wait(sent: &[Sent], receiver: &Receiver, longest: Duration) -> Duration {
    let began = Instant::now();
    let accepted = accepted(sent);
    while began.elapsed() < longest {
        {
            let arrived = receiver.arrived();
            if accepted.keys().all(|tag| arrived.told.contains_key(tag)) {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

/// Asks for every accepted job, and for its result through two gateways.
///
/// # Errors
/// A gateway does not answer.
pub async fn ask(sent: &[Sent], house: &Arc<House>) -> Result<HashMap<u32, Found>> {
    const ASKERS: usize = 16;
    let accepted = accepted(sent);
    let all: Vec<(u32, String)> = accepted
        .into_iter()
        .map(|(tag, job)| (tag, job.to_owned()))
        .collect();
    let mut askers = JoinSet::new();
    let connections = Connections::default();
    for part in all.chunks(all.len().div_ceil(ASKERS).max(1)) {
        let (part, house, connections) = (part.to_vec(), house.clone(), connections.clone());
        askers.spawn(async move {
            let mut found = Vec::with_capacity(part.len());
            for (tag, job) in part {
                found.push((tag, one(tag, job, &house, &connections).await?));
            }
            anyhow::Ok(found)
        });
    }
    let mut found = HashMap::new();
    while let Some(done) = askers.join_next().await {
        found.extend(done??);
    }
    Ok(found)
}

async fn one(tag: u32, job: String, house: &House, connections: &Connections) -> Result<Found> {
    let living = house.living();
    let gateway = |turn: usize| living[(tag as usize + turn) % living.len()].public;
    let path = format!("/jobs/{job}");
    let (status, body) = connections.get(gateway(0), &path).await?;
    let told: serde_json::Value = serde_json::from_slice(&body)
        .with_context(|| format!("{status} for a job: {}", String::from_utf8_lossy(&body)))?;
    let state = told["status"].as_str().unwrap_or("unknown").to_owned();
    let path = format!("{path}/result");
    let first = connections.get(gateway(1), &path).await?;
    let second = connections.get(gateway(2), &path).await?;
    let answer: serde_json::Value = serde_json::from_slice(&first.1)?;
    Ok(Found {
        status: state,
        callback: told["callback"].to_string(),
        answer: answer["id"].as_str().map(str::to_owned),
        changed: first != second,
    })
}
