//! Sweeps are short, whole, and pass by what is kept.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::SqliteStore;
use super::super::refusals::{NOW, job, request};
use super::MOST;
use crate::cold::job::UnixMillis;
use crate::cold::store::Store as _;

/// Old finished jobs with all that belongs to them; every `pending`th waits for its callback.
fn fill(path: &std::path::Path, count: u32, pending: u32) {
    let file = Connection::open(path).unwrap();
    file.execute_batch(&format!(
        "begin; \
         create temp table n as with recursive n (i) as (select 1 union all select i + 1 from n \
         where i < {count}) select i, printf('job_%032x', i) id from n; \
         insert into jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, created_at, \
         expires_at, finished_at, attempts, due) select id, zeroblob(32), 'succeeded', 'chat', \
         'requested', 1, 1, i, i, i / 3, 1, i from n; \
         insert into requests (job, method, path, headers, body, plain) \
         select seq, 'POST', '/v1/x', randomblob(200), randomblob(1500), 1 from jobs; \
         insert into answers (job, status, headers, body) \
         select seq, 200, randomblob(200), randomblob(1500) from jobs; \
         insert into deliveries (webhook_id, job, url, state) select 'msg_' || id, seq, 'u', \
         iif(created_at % {pending} = 0, 'pending', 'delivered') from jobs; \
         insert into history (job, number, ended, result, gateway) \
         select seq, 1, created_at, 'succeeded', 'host/1' from jobs; commit;"
    ))
    .unwrap();
}

fn count(path: &std::path::Path, table: &str) -> u32 {
    let file = Connection::open(path).unwrap();
    let sql = format!("select count(*) from {table}");
    file.query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Sweeps to the end; gives the steps' times, sorted.
async fn swept(store: &SqliteStore, before: UnixMillis) -> Vec<Duration> {
    let mut steps = Vec::new();
    loop {
        let began = Instant::now();
        let swept = store.sweep(500, before).await.unwrap();
        steps.push(began.elapsed());
        assert!(swept <= MOST as u64, "{swept} in one step");
        if swept == 0 {
            steps.sort();
            return steps;
        }
    }
}

#[tokio::test]
async fn what_is_old_goes_and_what_waits_for_its_callback_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    drop(SqliteStore::open(&path, 9).unwrap());
    fill(&path, 1_000, 4);
    let store = SqliteStore::open(&path, 9).unwrap();
    swept(&store, UnixMillis(100)).await;
    // Those that ended at 0 to 99 were the first 299.
    assert_eq!(count(&path, "jobs"), 1_000 - 299 + 74);
    swept(&store, NOW).await;
    for table in ["jobs", "requests", "answers", "deliveries", "history"] {
        assert_eq!(count(&path, table), 250, "{table}");
    }
}

#[tokio::test]
async fn many_that_wait_for_their_callbacks_are_not_taken_for_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    drop(SqliteStore::open(&path, 9).unwrap());
    fill(&path, 20_000, 1);
    let file = Connection::open(&path).unwrap();
    let last =
        "update deliveries set state = 'delivered' where job = (select max(job) from deliveries)";
    file.execute_batch(last).unwrap();
    let store = SqliteStore::open(&path, 9).unwrap();
    assert_eq!(store.sweep(500, NOW).await.unwrap(), 1);
}

/// Set `SHUNT_OLD_JOBS=1000000` for the figure of the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_of_very_many_holds_the_writer_a_few_milliseconds_a_step() {
    let old = std::env::var("SHUNT_OLD_JOBS").ok();
    let old = old.and_then(|old| old.parse().ok()).unwrap_or(20_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    drop(SqliteStore::open(&path, 9).unwrap());
    fill(&path, old, 10);
    let store = std::sync::Arc::new(SqliteStore::open(&path, 1_000_000).unwrap());
    let over = tokio_util::sync::CancellationToken::new();
    let inserts = tokio::spawn({
        let (store, over) = (store.clone(), over.clone());
        async move {
            let mut times = Vec::new();
            while !over.is_cancelled() {
                let one = Instant::now();
                store.insert(job(), request()).await.unwrap();
                times.push(one.elapsed());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            times.sort();
            times
        }
    });
    let began = Instant::now();
    let steps = swept(&store, NOW).await;
    let took = began.elapsed();
    over.cancel();
    let inserts = inserts.await.unwrap();
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
    println!(
        "{old} old jobs in {took:?}, {} steps: p50 {:?}, p99 {:?}, worst {:?}; inserts beside: p50 \
         {:?}, p99 {:?}, worst {:?}",
        steps.len(),
        at(&steps, 50),
        at(&steps, 99),
        steps.last().unwrap(),
        at(&inserts, 50),
        at(&inserts, 99),
        inserts.last().unwrap(),
    );
    let left = count(&path, "deliveries");
    assert_eq!(left, old / 10);
    // On a machine that is busy with other tests; 500 at once took longer than this.
    assert!(at(&steps, 50) < Duration::from_millis(100), "{steps:?}");
}
