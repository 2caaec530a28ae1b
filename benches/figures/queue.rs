//! What a job costs in a deep queue: claimed and ended, on SQLite, with few callers and many, and
//! with jobs that are not due. Files of two depths are used in turn, so that what else runs here
//! weighs on both.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use rusqlite::{Connection, params};
use shunt::cold::job::{Status, StoredAnswer, UnixMillis};
use shunt::cold::store::sqlite::SqliteStore;
use shunt::cold::store::{By, Outcome, Store as _};
use tempfile::TempDir;

use super::rig::sorted;

const NOW: UnixMillis = UnixMillis(1_795_514_400_000);

/// Jobs of one claim; a route's `cold.concurrency`.
const CLAIM: usize = 32;

const ROUNDS: usize = 20;

const SHALLOW: u32 = 1_000;

const JOBS: &str = "with recursive n (i) as (select 0 union all select i + 1 from n where i < ?1 - 1) \
    insert into jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, created_at, \
    expires_at, attempts, due, priority, ready) \
    select printf('job_%032x', i), unhex(printf('%064x', (i * 7919) % ?2)), 'queued', 'chat', \
    'requested', 0, 0, ?3, ?3 + (i * 7919) % 900000, 0, ?3 + 3600000 * (i % 100 < ?4), i % 10, \
    (i % 100 >= ?4) from n";

const REQUESTS: &str = "insert into requests (job, method, path, headers, body, plain) \
    select seq, 'POST', '/', x'', zeroblob(1000), 1 from jobs";

/// A store with so many jobs of so many callers, of which `resting` in a hundred are not due.
fn filled(jobs: u32, callers: u32, resting: u32) -> Result<(TempDir, SqliteStore)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    drop(SqliteStore::open(&path, 1)?);
    let connection = Connection::open(&path)?;
    connection.execute(JOBS, params![jobs, callers, NOW.0, resting])?;
    connection.execute(REQUESTS, [])?;
    drop(connection);
    let store = SqliteStore::open(&path, u64::MAX)?;
    Ok((folder, store))
}

fn answered() -> Outcome {
    Outcome {
        status: Status::Succeeded,
        answer: Some(StoredAnswer {
            status: 200,
            headers: Vec::new(),
            body: Bytes::from_static(&[b'x'; 1_000]),
            timing: String::new(),
        }),
        error: None,
    }
}

/// What a job of one claim takes, with its end.
async fn runs(store: &SqliteStore) -> Result<Duration> {
    let began = Instant::now();
    let claimed = store.claim("chat", CLAIM, NOW).await?;
    ensure!(
        claimed.len() == CLAIM,
        "{} jobs were claimed",
        claimed.len()
    );
    let ends = claimed.iter().map(|one| {
        let by = By::Run(one.job.fence);
        store.finish(&one.job.id, by, answered(), NOW)
    });
    try_join_all(ends).await?;
    Ok(began.elapsed() / u32::try_from(CLAIM)?)
}

fn median(times: &[Duration]) -> f64 {
    let times = sorted(times.iter().map(Duration::as_secs_f64).collect());
    times[times.len() / 2] * 1e6
}

pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for depth in [100_000, 1_000_000] {
        for (callers, resting) in [(1, 0), (10_000, 0), (100, 30)] {
            let (_few, shallow) = filled(SHALLOW, callers, resting)?;
            let (_many, deep) = filled(depth, callers, resting)?;
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                times[0].push(runtime.block_on(runs(&shallow))?);
                times[1].push(runtime.block_on(runs(&deep))?);
            }
            let [few, many] = times.map(|times| median(&times));
            println!(
                "queue: {callers} callers, {resting}% not due: {few:.0} us a job at depth {SHALLOW}, \
                 {many:.0} us at {depth}: {:.2} times",
                many / few
            );
        }
    }
    Ok(())
}
