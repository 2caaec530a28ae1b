//! A store that is silent for longer than callers wait for it: what becomes of the jobs that it writes
//! after their callers were refused.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, sleep};

use super::gateways::job;
use super::identity;
use super::provider::{Fate, Outage, Provider, connector};
use super::{PLAIN, Scene};
use crate::cold::door::Handover;
use crate::cold::job::{Status, StoredRequest};
use crate::cold::store::StoreError;
use crate::cold::store::memory::MemoryStore;
use crate::upstream::attempts::Attempts;

const SECOND: Duration = Duration::from_secs(1);

/// What a hand-over waits for the store (`hot::demote::PATIENCE`, written again on purpose).
const PATIENCE: Duration = Duration::from_millis(500);

/// Milliseconds that are longer.
const SLOW: u64 = 900;

/// A gateway whose store takes so many milliseconds for everything as `takes` says, and whose providers
/// are all down for so long.
async fn scene(down: Duration, takes: &Arc<AtomicU64>) -> Scene {
    with(&[Fate::AnswersSoon], down, takes).await
}

async fn with(fates: &'static [Fate], down: Duration, takes: &Arc<AtomicU64>) -> Scene {
    let outage = Outage {
        from: Instant::now(),
        until: Instant::now() + down,
        says: Some((503, None)),
    };
    let takes = takes.clone();
    let store = |kept: &_| {
        let takes = move || Duration::from_millis(takes.load(Relaxed));
        Arc::new(MemoryStore::open(kept, 99).taking(takes))
    };
    Scene::on(PLAIN, store, |ledger, tasks| {
        connector([0, 1, 2].map(|index| {
            let (ledger, tasks) = (ledger.clone(), tasks.clone());
            Provider::new(index, PLAIN.seed, ledger, tasks, Some(outage), fates)
        }))
    })
    .await
}

/// Sends a call that takes a 202; gives the status of its answer and how long it took.
async fn call(scene: &Scene, call: u64, key: Option<&str>, budget: Duration) -> (u16, Duration) {
    let mut link = scene.world.entrance.link(false).await.unwrap();
    let mut request = Request::post("/demoting/v1/chat/completions")
        .header("host", "gateway")
        .header("content-type", "application/json")
        .header("prefer", "respond-async")
        .header("x-shunt-budget", format!("{}ms", budget.as_millis()))
        .header(identity::CALL, call);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let body = Full::new(identity::request(call, false));
    let sent = Instant::now();
    let answer = link.send(request.body(body).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let _ = answer.into_body().collect().await;
    (status, sent.elapsed())
}

/// Calls that find every target down until each is left alone.
async fn close_every_target(scene: &Scene) {
    let closed = || {
        let routes = scene.house.routes();
        let route = routes.iter().find(|one| one.name.as_ref() == "demoting");
        route.unwrap().targets.closed_for(Instant::now()).is_some()
    };
    for number in 0..60 {
        if closed() {
            return;
        }
        call(scene, 1_000 + number, None, SECOND).await;
    }
    panic!("the targets are not left alone");
}

fn sent(scene: &Scene, call: u64) -> usize {
    let book = scene.ledger.book();
    book.sent.iter().filter(|one| one.call == call).count()
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_written_after_its_caller_was_refused_ends_unheard() {
    let takes = Arc::new(AtomicU64::new(SLOW));
    let scene = scene(Duration::ZERO, &takes).await;
    let job = job("nowhere");
    let handover = Handover {
        job,
        request: StoredRequest {
            method: "POST".into(),
            path_and_query: "/".into(),
            headers: Vec::new(),
            body: Bytes::new(),
        },
        attempts: Attempts::default(),
        key: None,
        scope: None,
    };
    let told = scene.house.door().hand_over(handover, PATIENCE).await;
    assert!(matches!(told, Err(StoreError::Silent)), "{told:?}");
    assert_eq!(scene.kept.everything()[0].job.status, Status::Queued);
    sleep(5 * SECOND).await;
    let row = scene.kept.everything().pop().unwrap();
    assert_eq!(row.job.status, Status::Cancelled);
    assert_eq!(row.job.callback, None);
    assert!(!row.is_called_back());
    scene.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_key_may_lead_to_a_job_is_not_run_beside_it() {
    let takes = Arc::new(AtomicU64::new(0));
    let scene = scene(30 * SECOND, &takes).await;
    close_every_target(&scene).await;
    takes.store(SLOW, Relaxed);
    let (status, _) = call(&scene, 1, Some("one"), 2 * SECOND).await;
    assert_eq!((status, sent(&scene, 1)), (503, 0));
    takes.store(0, Relaxed);
    sleep(60 * SECOND).await;
    // Its key leads to the job, which ran once the providers were well.
    let before = sent(&scene, 1);
    let (status, _) = call(&scene, 1, Some("one"), 2 * SECOND).await;
    assert_eq!((status, sent(&scene, 1)), (200, before));
    let rows = scene.kept.everything();
    let call = (identity::CALL.to_owned(), b"1".to_vec());
    let ours = rows
        .iter()
        .filter(|row| row.request.headers.contains(&call));
    let ours: Vec<_> = ours.map(|row| row.job.status).collect();
    assert_eq!(ours, [Status::Succeeded]);
    scene.stop(5 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_silent_store_once() {
    let takes = Arc::new(AtomicU64::new(0));
    let scene = scene(30 * SECOND, &takes).await;
    close_every_target(&scene).await;
    takes.store(SLOW, Relaxed);
    let budget = Duration::from_millis(100);
    let (status, took) = call(&scene, 1, None, budget).await;
    assert_eq!(status, 503);
    assert!(took <= budget + PATIENCE, "{took:?}");
    assert_eq!(sent(&scene, 1), 0);
    scene.stop(5 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_over_for_a_caller_that_left_does_not_wait_longer_than_it_would_have() {
    let takes = Arc::new(AtomicU64::new(0));
    let scene = with(&[Fate::Stalls], Duration::ZERO, &takes).await;
    takes.store(60_000, Relaxed);
    let budget = Duration::from_millis(100);
    let left = tokio::time::timeout(budget + SECOND / 100, call(&scene, 1, None, budget));
    assert!(left.await.is_err());
    let handed_over = Instant::now();
    sleep(PATIENCE).await;
    assert_eq!(sent(&scene, 1), 1);
    let ended = scene.ledger.book().sent[0].ended;
    assert!(ended.is_some_and(|ended| ended > handed_over));
    takes.store(0, Relaxed);
    sleep(90 * SECOND).await;
    assert_eq!(scene.kept.everything()[0].job.status, Status::Cancelled);
    scene.stop(5 * SECOND).await;
}

/// Asks for a page; gives its status and how long that took.
async fn page(scene: &Scene, method: &str, path: &str, wait: u64) -> (u16, Duration) {
    let mut link = scene.world.entrance.link(false).await.unwrap();
    let request = Request::builder().method(method).uri(path);
    let request = request
        .header("host", "gateway")
        .header("prefer", format!("wait={wait}"));
    let asked = Instant::now();
    let answer = link.send(request.body(Full::default()).unwrap()).await;
    (answer.unwrap().status().as_u16(), asked.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_page_waits_for_a_silent_store_once_besides_what_it_was_asked_to_wait() {
    let takes = Arc::new(AtomicU64::new(0));
    let scene = scene(200 * SECOND, &takes).await;
    close_every_target(&scene).await;
    call(&scene, 1, None, SECOND).await;
    let id = scene.kept.everything().pop().unwrap().job.id;
    let result = format!("/jobs/{}/result", id.as_str());
    let pages = [
        ("GET", format!("/jobs/{}", id.as_str()), 3),
        ("GET", result, 3),
        ("DELETE", format!("/jobs/{}", id.as_str()), 0),
    ];
    // What is asked first is answered in time, and then nothing is any more.
    for (method, path, wait) in pages {
        takes.store(4_000, Relaxed);
        let asked = page(&scene, method, &path, wait);
        let silence = async {
            sleep(SECOND).await;
            takes.store(600_000, Relaxed);
        };
        let ((status, took), ()) = tokio::join!(asked, silence);
        assert_eq!(status, 503, "{method} {path}");
        let most = Duration::from_secs(wait + 5) + PATIENCE / 50;
        assert!(took <= most, "{method} {path}: {took:?}");
        takes.store(0, Relaxed);
        sleep(SECOND).await;
    }
    scene.stop(5 * SECOND).await;
}
