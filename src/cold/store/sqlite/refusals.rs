//! What a file that cannot be written does to those who ask.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::cold::door::{Decision, Door, Errand, Handover};
use crate::cold::job::Reason;
use crate::cold::priority::Priority;
use crate::upstream::attempts::Attempts;

pub(super) const NOW: UnixMillis = UnixMillis(1_795_514_400_000);

pub(super) fn job() -> Job {
    Job {
        id: JobId::random(),
        owner: Owner::ANYONE,
        status: Status::Queued,
        route: "chat".into(),
        reason: Reason::Requested,
        budget_ms: 500,
        elapsed_ms: 0,
        created_at: NOW,
        expires_at: NOW.plus(Duration::from_mins(15)),
        finished_at: None,
        attempts: 0,
        fence: 0,
        error: None,
        callback: None,
        scope: None,
        background: None,
        priority: Priority::default(),
    }
}

pub(super) fn request() -> StoredRequest {
    StoredRequest {
        method: "POST".into(),
        path_and_query: "/".into(),
        headers: Vec::new(),
        body: Bytes::from(vec![b'x'; 5_000]),
    }
}

async fn set(store: &SqliteStore, pragma: &'static str) {
    let set = store.write(move |desk| {
        let mut found = desk.connection.prepare(pragma).unwrap();
        let _ = found.query([]).unwrap().next();
        Ok(())
    });
    set.await.unwrap();
}

#[tokio::test]
async fn with_a_full_disk_what_is_refused_is_not_written_and_what_is_not_refused_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let store = Arc::new(SqliteStore::open(&path, 1_000).unwrap());
    set(&store, "pragma max_page_count = 100").await;
    let jobs: Vec<Job> = std::iter::repeat_with(job).take(200).collect();
    // Some one by one; the rest together, so that the disk is full in the midst of a commit.
    let (first, rest) = jobs.split_at(10);
    let mut told = Vec::new();
    for job in first {
        told.push(store.insert(job.clone(), request()).await);
    }
    let insert = rest.iter().map(|job| store.insert(job.clone(), request()));
    told.extend(futures_util::future::join_all(insert).await);
    let refused = told.iter().filter(|one| one.is_err()).count();
    assert!(refused > 100, "{refused} refused");
    assert!(refused < 200, "none was kept");
    drop(store);
    let store = SqliteStore::open(&path, 1_000).unwrap();
    for (job, told) in jobs.iter().zip(&told) {
        let kept = store.get(&job.id).await.unwrap().is_some();
        assert_eq!(kept, told.is_ok(), "{told:?}");
    }
    // There is room again.
    store.insert(job(), request()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_can_only_be_read_is_not_ready_and_can_still_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("jobs.db"), 9).unwrap();
    let kept = job();
    store.insert(kept.clone(), request()).await.unwrap();
    store.ready().await.unwrap();
    set(&store, "pragma query_only = on").await;
    let why = store.ready().await.unwrap_err().to_string();
    assert!(why.contains("readonly"), "{why}");
    assert!(store.insert(job(), request()).await.is_err());
    assert_eq!(store.get(&kept.id).await.unwrap(), Some(kept));
}

fn handed_over(door: &Door) -> impl Future<Output = Result<Option<Box<Job>>, StoreError>> + use<> {
    let handover = Handover {
        job: job(),
        request: request(),
        attempts: Attempts::default(),
        key: None,
        scope: None,
    };
    door.hand_over(handover, Duration::from_millis(500))
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_is_not_waited_for_and_its_late_answer_is_known_to_be_late() {
    let (door, mut intake) = Door::new(None);
    let began = tokio::time::Instant::now();
    assert!(handed_over(&door).await.is_err());
    assert_eq!(began.elapsed().as_millis() / 10, 50);
    let Some(Errand::TakeOver(_, decision, _)) = intake.recv().await else {
        panic!("it was handed over");
    };
    decision.refused().await;
    assert!(!decision.is_first());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_in_time_is_heard_however_late_the_caller_looks() {
    let (door, mut intake) = Door::new(None);
    let answer = async {
        let Some(Errand::TakeOver(_, decision, reply)) = intake.recv().await else {
            panic!("it was handed over");
        };
        let first = Decision::is_first(&decision);
        tokio::time::sleep(Duration::from_secs(1)).await;
        reply.send(Ok(None)).unwrap();
        first
    };
    let (told, first) = tokio::join!(handed_over(&door), answer);
    assert!(first && told.is_ok());
}
