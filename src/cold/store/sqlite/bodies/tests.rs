//! Large bodies apart: durable, whole, swept, and in nobody's way.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::refusals::{NOW, job, request};
use super::super::worker::unavailable;
use super::*;
use crate::cold::job::Owner;
use crate::cold::job::{Status, StoredAnswer};
use crate::cold::recall::{Became, CallKey, Kept};
use crate::cold::store::sqlite::SqliteStore;
use crate::cold::store::{By, Outcome, Store as _};

fn long(mark: u8) -> Bytes {
    (0..700_001usize)
        .map(|at| mark ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
        .collect()
}

fn answer(body: Bytes) -> StoredAnswer {
    StoredAnswer {
        status: 200,
        headers: Vec::new(),
        body,
        timing: String::new(),
    }
}

fn succeeded(body: Bytes) -> Outcome {
    Outcome {
        status: Status::Succeeded,
        answer: Some(answer(body)),
        error: None,
    }
}

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(&folder.join("jobs.db"), 100_000).unwrap()
}

/// How many bodies and chunks there are.
fn held(folder: &Path) -> (i64, i64) {
    let file = Connection::open(folder.join("jobs.db-bodies")).unwrap();
    let count = |table| {
        let sql = format!("select count(*) from {table}");
        file.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    (count("bodies"), count("chunks"))
}

#[tokio::test]
async fn a_body_that_cannot_be_read_at_this_moment_fails_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (queued, mut sent) = (job(), request());
    sent.body = long(1);
    store.insert(queued.clone(), sent.clone()).await.unwrap();
    let file = Connection::open(folder.path().join("jobs.db-bodies")).unwrap();
    file.execute_batch("alter table chunks rename to away")
        .unwrap();
    assert!(store.claim("chat", 9, NOW).await.unwrap().is_empty());
    let waits = store.get(&queued.id).await.unwrap().unwrap();
    assert_eq!((waits.status, waits.attempts), (Status::Queued, 0));
    file.execute_batch("alter table away rename to chunks")
        .unwrap();
    let later = NOW.plus(Duration::from_secs(1));
    let claimed = store.claim("chat", 9, later).await.unwrap();
    assert_eq!(claimed[0].request, sent);
}

#[tokio::test]
async fn long_bodies_are_whole_after_a_restart_and_go_with_their_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let (queued, done) = (job(), job());
    let key = CallKey::named(Owner::ANYONE, "k", [1; 32]);
    let kept = Kept {
        key,
        at: NOW,
        what: Became::Answer(answer(long(3))),
    };
    let mut sent = request();
    sent.body = long(1);
    {
        let store = open(folder.path());
        store.insert(queued.clone(), sent.clone()).await.unwrap();
        store.insert(done.clone(), request()).await.unwrap();
        store
            .finish(&done.id, By::Order, succeeded(long(2)), NOW)
            .await
            .unwrap();
        store.keep(kept.clone()).await.unwrap();
    }
    assert_eq!(held(folder.path()), (3, 9));
    let store = open(folder.path());
    assert_eq!(store.claim("chat", 9, NOW).await.unwrap()[0].request, sent);
    assert_eq!(store.answer(&done.id).await.unwrap(), Some(answer(long(2))));
    assert_eq!(store.answer_size(&done.id).await.unwrap(), Some(700_001));
    assert_eq!(store.kept(key.name).await.unwrap(), Some(kept));
    let later = NOW.plus(Duration::from_secs(1));
    while store.sweep(9, later).await.unwrap() > 0 {}
    assert_eq!(held(folder.path()), (1, 3));
    store
        .finish(&queued.id, By::Order, succeeded(Bytes::new()), NOW)
        .await
        .unwrap();
    while store.sweep(9, later).await.unwrap() > 0 {}
    assert_eq!(held(folder.path()), (0, 0));
}

#[tokio::test]
async fn what_no_row_names_is_swept_but_not_while_it_is_written_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let named = store.bodies.put(&long(1)).await.unwrap();
    store.sweep(9, NOW).await.unwrap();
    assert_eq!(held(folder.path()), (1, 3));
    drop(named);
    store.sweep(9, NOW).await.unwrap();
    assert_eq!(held(folder.path()), (0, 0));
    // An end that came too late leaves its answer to the sweep.
    let done = job();
    store.insert(done.clone(), request()).await.unwrap();
    for mark in [4, 5] {
        let _ = store
            .finish(&done.id, By::Order, succeeded(long(mark)), NOW)
            .await
            .unwrap();
    }
    assert_eq!(held(folder.path()), (2, 6));
    store.sweep(9, NOW).await.unwrap();
    assert_eq!(held(folder.path()), (1, 3));
    assert_eq!(store.answer(&done.id).await.unwrap(), Some(answer(long(4))));
}

#[tokio::test]
async fn a_body_that_a_crash_cut_short_is_never_seen() {
    let folder = tempfile::tempdir().unwrap();
    let done = job();
    {
        let store = open(folder.path());
        store.insert(done.clone(), request()).await.unwrap();
        // The process dies after the first chunk: of the end nothing was written.
        let mut finish = store.finish(&done.id, By::Order, succeeded(long(1)), NOW);
        while held(folder.path()).1 == 0 {
            let one = futures_util::poll!(&mut finish);
            assert!(one.is_pending());
            tokio::task::yield_now().await;
        }
    }
    let (bodies, chunks) = held(folder.path());
    assert!(bodies == 1 && chunks < 3, "{chunks} chunks");
    let store = open(folder.path());
    assert_eq!(store.answer(&done.id).await.unwrap(), None);
    assert!(
        store
            .get(&done.id)
            .await
            .unwrap()
            .unwrap()
            .finished_at
            .is_none()
    );
    store.sweep(9, NOW).await.unwrap();
    assert_eq!(held(folder.path()), (0, 0));
}

#[tokio::test]
async fn a_body_that_is_lost_is_told_and_its_job_is_not_sent_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (queued, fine) = (job(), job());
    let store = open(folder.path());
    let mut sent = request();
    sent.body = long(1);
    store.insert(queued.clone(), sent).await.unwrap();
    store.insert(fine.clone(), request()).await.unwrap();
    let file = Connection::open(folder.path().join("jobs.db-bodies")).unwrap();
    file.execute("delete from chunks where number = 2", [])
        .unwrap();
    let claimed = store.claim("chat", 9, NOW).await.unwrap();
    let why = &claimed[0].job.error.as_ref().unwrap().message;
    assert!(why.contains("file of bodies"), "{why}");
    assert_eq!(claimed[0].request.method, "");
    assert_eq!(claimed[1].request, request());
}

#[tokio::test]
async fn a_long_body_that_has_no_room_is_refused_and_leaves_nothing_and_short_ones_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let limit = |pages: u32| {
        store.bodies.writer.run(move |desk| {
            let sql = format!("pragma max_page_count = {pages}");
            let set = desk.connection.query_row(&sql, [], |_| Ok(()));
            set.map_err(|error| unavailable(&error))
        })
    };
    limit(30).await.unwrap();
    let (mut long_one, refused, short) = (request(), job(), job());
    long_one.body = long(1);
    let told = store.insert(refused.clone(), long_one.clone()).await;
    assert!(told.unwrap_err().to_string().contains("full"));
    assert_eq!(store.get(&refused.id).await.unwrap(), None);
    store.insert(short.clone(), request()).await.unwrap();
    let end = succeeded(long(2));
    let told = store.finish(&short.id, By::Order, end.clone(), NOW).await;
    assert!(told.is_err());
    let stands = store.get(&short.id).await.unwrap().unwrap();
    assert_eq!(stands.finished_at, None);
    store.sweep(9, NOW).await.unwrap();
    assert_eq!(held(folder.path()), (0, 0));
    limit(10_000).await.unwrap();
    store.insert(refused, long_one).await.unwrap();
    store.finish(&short.id, By::Order, end, NOW).await.unwrap();
    assert_eq!(held(folder.path()), (2, 6));
}

/// Inserts one after the other for so long; gives their times, sorted.
async fn inserts(store: &SqliteStore, long: Duration) -> Vec<Duration> {
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < long {
        let one = Instant::now();
        store.insert(job(), request()).await.unwrap();
        times.push(one.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_kept_as_fast_while_long_answers_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let alone = inserts(&store, Duration::from_secs(2)).await;
    let (over, mut writing) = (
        Arc::new(AtomicBool::new(false)),
        tokio::task::JoinSet::new(),
    );
    for _ in 0..2 {
        let (store, over) = (store.clone(), over.clone());
        writing.spawn(async move {
            let mut written = 0;
            while !over.load(Ordering::Relaxed) {
                let done = job();
                store.insert(done.clone(), request()).await.unwrap();
                let body = Bytes::from(vec![b'x'; 64 << 20]);
                store
                    .finish(&done.id, By::Order, succeeded(body), NOW)
                    .await
                    .unwrap();
                written += 1;
            }
            written
        });
    }
    let beside = inserts(&store, Duration::from_secs(4)).await;
    over.store(true, Ordering::Relaxed);
    let written: usize = writing.join_all().await.into_iter().sum();
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
    println!(
        "inserts alone: p50 {:?}, p99 {:?}, worst {:?}; beside {written} answers of 64 MiB: p50 {:?}, \
         p99 {:?}, worst {:?}",
        at(&alone, 50),
        at(&alone, 99),
        alone.last().unwrap(),
        at(&beside, 50),
        at(&beside, 99),
        beside.last().unwrap(),
    );
    assert!(written > 0);
    // With them in the rows some of these took 1.4 s.
    assert!(
        beside.last().unwrap() < &Duration::from_millis(500),
        "{beside:?}"
    );
}

#[test]
fn what_a_store_holds_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    for name in ["jobs.db", "jobs.db-wal", "jobs.db-bodies"] {
        let file = std::fs::metadata(folder.path().join(name)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
}
