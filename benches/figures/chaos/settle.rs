//! After the faults: every job is asked for until it has ended and its callback has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::callers::{Done, Kind};
use super::gateways::ALONE;
use crate::storm::Connections;
use crate::storm::house::House;
use crate::storm::receiver::Receiver;

/// What a job's gateways say of it in the end: its page, or the status of what came instead.
#[derive(Clone, Debug)]
pub struct Found {
    pub status: String,
    pub page: String,
}

impl Found {
    pub fn is_final(&self) -> bool {
        matches!(
            &*self.status,
            "succeeded" | "failed" | "cancelled" | "expired"
        )
    }
}

/// Askers at once.
const AT_ONCE: usize = 16;

async fn ask(house: &House, connections: &Connections, job: &str, peer: usize) -> Result<Found> {
    let living = house.living();
    let mut peers = living
        .iter()
        .filter(|one| (one.gateway == ALONE) == (peer == ALONE));
    let Some(to) = peers.next() else {
        return Ok(Found {
            status: "no gateway".into(),
            page: String::new(),
        });
    };
    let path = format!("/jobs/{job}");
    let asked = connections.get(to.public, &path);
    let (status, body) = tokio::time::timeout(Duration::from_secs(10), asked).await??;
    let page: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let told = page["status"].as_str().filter(|_| status == 200);
    Ok(Found {
        status: told.map_or_else(|| status.to_string(), str::to_owned),
        page: page.to_string(),
    })
}

/// Asks for every accepted job until all have ended and were called back, or for so long.
pub async fn wait(
    all: &[Done],
    house: &Arc<House>,
    receiver: &Receiver,
    longest: Duration,
) -> (HashMap<u32, Found>, Duration) {
    let began = Instant::now();
    let connections = Connections::default();
    let mut found: HashMap<u32, Found> = HashMap::new();
    loop {
        let open = all.iter().filter_map(|done| {
            let (job, peer) = done.job.as_ref()?;
            let ended = found.get(&done.tag).is_some_and(Found::is_final);
            (!ended).then(|| (done.tag, job.clone(), *peer))
        });
        let open: Vec<_> = open.collect();
        let asked = stream::iter(open).map(|(tag, job, peer)| {
            let (house, connections) = (house.clone(), connections.clone());
            async move {
                let told = ask(&house, &connections, &job, peer).await;
                let broken = |why: anyhow::Error| Found {
                    status: "no answer".into(),
                    page: why.to_string(),
                };
                (tag, told.unwrap_or_else(broken))
            }
        });
        let told: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
        found.extend(told);
        let ended = found.values().all(Found::is_final);
        if ended && uncalled(all, receiver).is_empty() || began.elapsed() > longest {
            return (found, began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Jobs of which the receiver did not hear.
pub fn uncalled(all: &[Done], receiver: &Receiver) -> Vec<u32> {
    let arrived = receiver.arrived();
    let due = all
        .iter()
        .filter(|done| done.job.is_some() && done.kind != Kind::Polled);
    due.map(|done| done.tag)
        .filter(|tag| !arrived.told.contains_key(tag))
        .collect()
}
