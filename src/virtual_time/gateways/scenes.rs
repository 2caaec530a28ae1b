//! What gateways promise each other, each in the smallest scene that shows it.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use super::{HEARTBEAT, Member, SECOND, Town, job, request};
use crate::cold::door::Handover;
use crate::cold::job::{Job, JobId, Owner, Status, StoredAnswer, UnixMillis};
use crate::cold::recall::{Became, CallKey, Kept};
use crate::cold::store::Store as _;
use crate::upstream::attempts::Attempts;
use crate::virtual_time::identity;
use crate::virtual_time::provider::Fate;

/// A job that runs at the first gateway, and a second that came later.
async fn running(town: &Town, streamed: bool) -> (Member, Member, JobId) {
    let first = town.join().await;
    let job = job("seeing");
    let id = job.id.clone();
    let kept = first.store.insert(job, request(1, streamed)).await;
    kept.unwrap();
    town.until("it runs", |town| town.sent(1) == 1).await;
    (first, town.join().await, id)
}

#[tokio::test(start_paused = true)]
async fn a_dead_gateways_job_runs_elsewhere_within_two_heartbeats() {
    for beat in 0..8 {
        let town = Town::new(50 + beat, &[Fate::AnswersLate], 0.0);
        let (first, second, _) = running(&town, false).await;
        // Deaths all over the time between two renewals.
        sleep(Duration::from_millis(beat * 170)).await;
        first.dies().await;
        let took = town.until("it runs again", |town| town.sent(1) == 2).await;
        assert!(took <= HEARTBEAT * 2, "{took:?}");
        town.all_end().await;
        second.leaves(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_leaves_gives_its_jobs_to_the_others_at_once() {
    let town = Town::new(60, &[Fate::Stalls, Fate::AnswersLate], 0.0);
    let (first, second, _) = running(&town, false).await;
    first.leaves(SECOND).await;
    let took = town.until("it runs again", |town| town.sent(1) == 2).await;
    assert!(took <= Duration::from_millis(200), "{took:?}");
    town.all_end().await;
    second.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_anywhere_stops_its_call_within_100_ms() {
    let town = Town::new(61, &[Fate::Stalls], 0.0);
    let (first, second, id) = running(&town, false).await;
    second
        .house
        .runner
        .cancel_for_operator(&id)
        .await
        .unwrap()
        .unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(town.ledger.book().running, 0);
    first.leaves(SECOND).await;
    second.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_gateway_that_was_cut_off_keeps_what_it_runs() {
    let town = Town::new(62, &[Fate::AnswersLate], 0.0);
    let first = town.join().await;
    first
        .store
        .insert(job("seeing"), request(1, false))
        .await
        .unwrap();
    town.until("it runs", |town| town.sent(1) == 1).await;
    first.store.reach.cut(true);
    sleep(HEARTBEAT * 4).await;
    first.store.reach.cut(false);
    town.all_end().await;
    let row = &town.rows()[0];
    assert_eq!((row.job.status, town.sent(1)), (Status::Succeeded, 1));
    first.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_lost_a_job_while_it_was_cut_off_stops_it() {
    let town = Town::new(63, &[Fate::Stalls], 0.0);
    let (first, second, _) = running(&town, false).await;
    first.store.reach.cut(true);
    town.until("it runs twice", |town| town.sent(1) == 2).await;
    assert_eq!(town.ledger.book().running, 2);
    first.store.reach.cut(false);
    let once = |town: &Town| town.ledger.book().running == 1;
    let took = town.until("it runs once", once).await;
    assert!(took <= HEARTBEAT, "{took:?}");
    first.leaves(SECOND).await;
    second.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_gateway_was_cut_off_is_kept_under_its_key_when_the_store_is_back() {
    let town = Town::new(66, &[Fate::AnswersLate], 0.0);
    let (first, second) = (town.join().await, town.join().await);
    let key = CallKey::named(Owner::ANYONE, "order-7", [7; 32]);
    let answer = StoredAnswer {
        status: 200,
        headers: Vec::new(),
        body: "paid for".into(),
        timing: String::new(),
    };
    let kept = Kept {
        key,
        at: UnixMillis::now(),
        what: Became::Answer(answer.clone()),
    };
    first.store.reach.cut(true);
    let (reply, told) = oneshot::channel();
    let runner = first.house.runner.clone();
    town.links
        .spawn(async move { runner.surely_keep(kept, reply).await });
    assert!(
        told.await.unwrap().is_err(),
        "its caller hears of it at once"
    );
    sleep(HEARTBEAT).await;
    first.store.reach.cut(false);
    sleep(HEARTBEAT).await;
    let found = second.store.kept(key.name).await.unwrap().unwrap();
    assert_eq!(found.answer(), Some(&answer));
    first.leaves(SECOND).await;
    second.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_keyed_call_that_became_a_job_at_another_gateway_gets_that_job() {
    let town = Town::new(67, &[Fate::AnswersLate], 0.0);
    let (first, second) = (town.join().await, town.join().await);
    let hand_over = async |member: &Member, job: Job| {
        let handover = Handover {
            job,
            request: request(1, false),
            attempts: Attempts::default(),
            key: Some(CallKey::named(Owner::ANYONE, "order-7", [7; 32])),
            scope: None,
        };
        let told = member.house.door().hand_over(handover, SECOND).await;
        told.unwrap().map(|job| job.id)
    };
    sleep(SECOND).await;
    let (one, other) = (job("nowhere"), job("nowhere"));
    let id = one.id.clone();
    assert_eq!(hand_over(&first, one).await, None);
    assert_eq!(hand_over(&second, other).await, Some(id));
    assert_eq!(town.rows().len(), 1);
    first.leaves(SECOND).await;
    second.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_job_is_answered_when_its_gateway_begins_to_drain() {
    let town = Town::new(68, &[Fate::AnswersLate], 0.0);
    let member = town.join().await;
    let waits = job("nowhere");
    let asked = Request::get(format!("/jobs/{}/result?wait=60", waits.id));
    let asked = asked.body(Body::empty()).unwrap();
    member.store.insert(waits, request(1, false)).await.unwrap();
    let pages = crate::cold::api::router(member.house.runner.clone());
    let answer = async {
        let began = Instant::now();
        let answer = pages.oneshot(asked).await.unwrap();
        (answer.status(), began.elapsed())
    };
    let drain = async {
        sleep(SECOND).await;
        member.leaves(SECOND).await;
    };
    let ((status, took), ()) = tokio::join!(answer, drain);
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert!(took < SECOND * 3 / 2, "{took:?}");
}

/// Reads a job's events at a gateway, from a place on, until enough were read or they end.
async fn events(member: &Member, id: &JobId, from: Option<&str>, enough: usize) -> Vec<String> {
    let mut request = Request::get(format!("/jobs/{id}/events"));
    if let Some(from) = from {
        request = request.header("last-event-id", from);
    }
    let api = crate::cold::api::router(member.house.runner.clone());
    let response = api
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (mut body, mut text) = (response.into_body(), String::new());
    let whole = |text: &str| text.matches("\n\n").count();
    while whole(&text) < enough
        && let Some(frame) = body.frame().await
    {
        text += std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap();
    }
    let events = text.split_inclusive("\n\n").map(str::to_owned);
    events
        .filter(|event| !event.starts_with(": keep-alive"))
        .collect()
}

/// The bytes of the provider's events among these.
fn content(events: &[String]) -> String {
    let ours = events
        .iter()
        .filter(|event| !event.contains("event: status"));
    let lines = ours.flat_map(|event| event.split_inclusive('\n'));
    // What is replayed says in a comment when it came.
    let told = |line: &&str| !line.starts_with("id:") && !line.starts_with(':');
    lines.filter(told).collect()
}

fn place(event: &str) -> &str {
    let mut lines = event.lines();
    lines.find_map(|line| line.strip_prefix("id: ")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_jobs_events_are_read_at_any_gateway_and_resumed_at_another() {
    let town = Town::new(64, &[Fate::AnswersLate], 0.0);
    let (first, second, id) = running(&town, true).await;
    let whole = String::from_utf8(identity::answer(1, true)).unwrap();
    let far = usize::MAX;
    let there = async {
        let begun = events(&first, &id, None, 3).await;
        let rest = events(&second, &id, Some(place(&begun[2])), far).await;
        assert!(!rest.concat().contains("restart"), "{rest:?}");
        content(&[begun, rest].concat())
    };
    let (elsewhere, there) = tokio::join!(events(&second, &id, None, far), there);
    assert_eq!(there, whole);
    assert_eq!(content(&elsewhere), whole);
    let (running, last) = (&elsewhere[0], elsewhere.last().unwrap());
    assert!(running.contains(r#""status":"running""#), "{running}");
    assert!(last.contains(r#""status":"succeeded""#), "{last}");
    first.leaves(SECOND).await;
    second.leaves(SECOND).await;
}
