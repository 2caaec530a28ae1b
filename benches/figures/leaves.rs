//! The Tail at Scale (Dean and Barroso, CACM 56(2), 2013), its hedging table: a read asks 100 leaf
//! servers and waits for all; hedged after 10 ms the paper's p99.9 went from 1,800 to 74 ms with 2%
//! more calls.
//!
//! The leaves' latency is the one that reproduces the table: P(X > t) through 4 ms: 0.5, 10 ms:
//! 0.02, 69 ms: 0.0032, 1.8 s: 0.00001, straight lines between on a log-log scale. What is 10 ms at
//! a leaf is 12 to 15 here: timers are a millisecond coarse and round up, and a read's 200 calls
//! share two cores with the leaves. So Shunt hedges after 15 ms; and a call whose second attempt is
//! slow too, one in 3,000, is sent a third time. The first reads, for which connections are opened,
//! do not count.
//!
//! The p99.9 of straight reads rests on the one call in 100,000 that takes 1.8 s: drawn one by one,
//! a run of 10,000 reads would have five of them or fifteen. So latencies are drawn by strata (one
//! from each of as many equal parts of the distribution as there are calls, in random order): every
//! run has the tail that the table says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::behave::{Providers, Rested, call};
use super::rig::{at, gateway_with, sorted};

const LEAVES: u16 = 100;
const WARM: u32 = 200;
const READS: u32 = 10_000;

/// A read holds 400 descriptors of this one process: a machine that stops for a second and a half
/// must not use them up.
const RATE: u32 = 25;

/// Of all reads, straight or hedged, without the second attempts.
const CALLS: u32 = (WARM + READS) * LEAVES as u32;

const SURVIVAL: [(f64, f64); 5] = [
    (0.001, 1.0),
    (0.004, 0.5),
    (0.010, 0.02),
    (0.069, 0.0032),
    (1.800, 1e-5),
];

/// The seconds that this share of all calls takes longer than.
fn latency(share: f64) -> f64 {
    for pair in SURVIVAL.windows(2) {
        let ((from, high), (to, low)) = (pair[0], pair[1]);
        if share >= low {
            let part = (high.ln() - share.ln()) / (high.ln() - low.ln());
            return (from.ln() + part * (to.ln() - from.ln())).exp();
        }
    }
    1.8
}

/// Reads at a constant rate; gives the seconds that each took from its due time.
async fn read(leaves: Arc<Vec<(SocketAddr, String)>>) -> Result<Vec<f64>> {
    let rested: Arc<Vec<Rested>> = Arc::new(leaves.iter().map(|_| Rested::default()).collect());
    let mut reads = JoinSet::new();
    let began = Instant::now();
    for number in 0..WARM + READS {
        let due = began + Duration::from_secs(1) / RATE * number;
        tokio::time::sleep_until(due).await;
        let (leaves, rested) = (leaves.clone(), rested.clone());
        reads.spawn(async move {
            let asked = leaves
                .iter()
                .zip(rested.iter())
                .map(|((address, path), rested)| {
                    call(rested, *address, path, Bytes::from_static(b"{}"))
                });
            for status in futures_util::future::try_join_all(asked).await? {
                ensure!(status == 200, "a leaf answered {status}");
            }
            let took = due.elapsed().as_secs_f64();
            anyhow::Ok((number >= WARM).then_some(took))
        });
    }
    let mut took = Vec::new();
    while let Some(done) = reads.join_next().await {
        took.extend(done??);
    }
    Ok(sorted(took))
}

pub fn run() -> Result<()> {
    let mut strata: Vec<u32> = (0..CALLS).collect();
    strata.shuffle(&mut StdRng::seed_from_u64(0x5eed));
    let number = AtomicUsize::new(0);
    let providers = Providers::start(
        LEAVES.into(),
        Arc::new(move |_, _| {
            let call = number.fetch_add(1, Ordering::Relaxed);
            let stratum = f64::from(strata[call % strata.len()]);
            let share = (stratum + 1.0 - rand::random::<f64>()) / f64::from(CALLS);
            (Duration::from_secs_f64(latency(share)), 200)
        }),
    )?;
    let routes = (0..LEAVES).map(|leaf| {
        let replica = (leaf + 1) % LEAVES;
        format!(
            "[[routes]]\nname = \"leaf-{leaf}\"\nmatch = {{ path = \"/leaf/{leaf}\" }}\n\
             targets = [\"p{leaf}\", {{ provider = \"p{replica}\", weight = 0 }}]\n\
             hedge = {{ after = \"15ms\", max_attempts = 3, max_extra = 0.1, safe = \"always\" }}\n"
        )
    });
    let (server, _folder) =
        gateway_with(&providers.addresses, "plain", &routes.collect::<String>())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let paths = |at: fn(SocketAddr, SocketAddr) -> SocketAddr| {
        let leaves = providers.addresses.iter().enumerate();
        Arc::new(
            leaves
                .map(|(leaf, own)| (at(*own, server.public), format!("/leaf/{leaf}")))
                .collect::<Vec<_>>(),
        )
    };
    let straight = runtime.block_on(read(paths(|own, _| own)))?;
    let before = providers.total();
    let hedged = runtime.block_on(read(paths(|_, shunt| shunt)))?;
    let extra = (providers.total() - before) as f64 / f64::from(CALLS) - 1.0;
    for (name, took) in [("straight", &straight), ("through Shunt", &hedged)] {
        println!(
            "{name:<14} {READS} reads of {LEAVES} leaves: p50 {:.0} ms, p99 {:.0} ms, p99.9 {:.0} ms",
            at(took, 0.5) * 1e3,
            at(took, 0.99) * 1e3,
            at(took, 0.999) * 1e3
        );
    }
    println!(
        "p99.9 {:.1} times lower with {:.2}% more calls",
        at(&straight, 0.999) / at(&hedged, 0.999),
        extra * 100.0
    );
    let cut = at(&straight, 0.999) / at(&hedged, 0.999);
    ensure!(
        cut >= 24.0 && extra <= 0.02,
        "short of 24 times with 2% more calls"
    );
    ensure!(server.drain() == 0, "tasks were left after the drain");
    Ok(())
}
