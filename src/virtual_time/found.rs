//! What the simulation found, each in the smallest scene that shows it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::sleep;

use super::plan::{LANES, Plan};
use super::provider::Fate;
use super::{PLAIN, Scene, caller};
use crate::cold::job::Status;
use crate::cold::store::memory::Row;
use crate::config::Protocol;
use crate::latency::Window;
use crate::tasks::Tasks;
use crate::upstream::connect::{Connector, Dialer, Transport};
use crate::upstream::pool::{Bounds, Pool};

/// Calls of one lane, made as `change` wants them; providers do this with each sending of a call,
/// in turn.
async fn called(
    fates: &'static [Fate],
    lane: &str,
    calls: u64,
    change: impl Fn(&mut Plan),
) -> Scene {
    let scene = Scene::open(PLAIN, fates).await;
    for call in 0..calls {
        let mut plan = Plan {
            call,
            key: call % 5,
            lane: LANES.iter().find(|one| one.name == lane).unwrap(),
            streamed: false,
            http2: false,
            respond_async: false,
            wait: None,
            budget: None,
            patience: None,
            leaves: None,
            cancels: None,
        };
        change(&mut plan);
        caller::call(scene.world.clone(), plan).await;
    }
    scene
}

/// The same, to the end. Gives the jobs.
async fn scene(
    fates: &'static [Fate],
    lane: &str,
    calls: u64,
    change: impl Fn(&mut Plan),
) -> Vec<Row> {
    end(called(fates, lane, calls, change).await).await
}

async fn end(scene: Scene) -> Vec<Row> {
    scene.stop(Duration::from_secs(1)).await;
    let rows = scene.kept.everything();
    scene.verdict(None).await;
    rows
}

/// What is told of a lane's calls under a limit.
fn over(scene: &Scene, lane: &str, first_token: bool, millis: u64) -> (u64, f64, f64) {
    let routes = scene.house.routes();
    let route = routes.iter().find(|one| &*one.name == lane).unwrap();
    let limit = Duration::from_millis(millis);
    let share = route.meter.over(first_token, Window::Hour, limit);
    (share.count, share.over, share.unknown)
}

/// Long enough that every window has seen what was counted before.
const SEEN: Duration = Duration::from_secs(12);

#[tokio::test(start_paused = true)]
async fn a_stream_is_held_to_the_budget_for_whole_answers_only_where_it_is_cut() {
    for (lane, held) in [("demoting", 2), ("failing", 4)] {
        let odd = |plan: &mut Plan| plan.streamed = plan.call % 2 == 1;
        let scene = called(&[Fate::AnswersSoon], lane, 4, odd).await;
        sleep(SEEN).await;
        assert_eq!(over(&scene, lane, false, 60_000), (held, 0.0, 0.0));
        assert_eq!(over(&scene, lane, true, 60_000), (2, 0.0, 0.0));
        end(scene).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_left_has_kept_no_budget_that_is_longer_than_it_stayed() {
    let scene = called(&[Fate::Stalls], "demoting", 4, |plan| {
        plan.streamed = plan.call % 2 == 1;
        plan.leaves = Some(Duration::from_millis(100));
    });
    let scene = scene.await;
    sleep(SEEN).await;
    for first_token in [false, true] {
        let told = |millis| over(&scene, "demoting", first_token, millis);
        assert_eq!(told(50), (2, 1.0, 0.0));
        assert_eq!(told(1_000), (2, 0.0, 1.0));
    }
    end(scene).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_whose_body_stops_does_not_pass_the_deadline() {
    for fates in [&[Fate::RefusesAndStops(400)], &[Fate::RefusesAndStops(500)]] {
        for lane in ["failing", "demoting", "seeing"] {
            scene(fates, lane, 2, |plan| plan.streamed = plan.call == 1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_while_it_is_claimed_is_not_sent() {
    scene(&[Fate::Stalls], "demoting", 300, |plan| {
        (plan.respond_async, plan.wait) = (true, Some(0));
        plan.cancels = Some(Duration::from_millis(plan.call % 10));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_stops_within_does_not_hold_up_the_other_of_its_job() {
    let fates = &[Fate::RefusesAndStops(400), Fate::AnswersLate];
    let rows = scene(fates, "demoting", 45, |plan| {
        plan.respond_async = true;
        plan.cancels = Some(Duration::from_secs(20));
    });
    let rows = rows.await;
    let (hedged, single): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.job.attempts > 1);
    // The bucket begins with two hedges and gets one for every twentieth call; the first call takes
    // both.
    assert_eq!((hedged.len(), single.len()), (3, 42));
    assert!(hedged.iter().all(|row| row.job.status == Status::Succeeded));
    assert!(single.iter().all(|row| row.job.status == Status::Cancelled));
}

/// Connections over HTTP/2, of which the first is never there.
fn hangs_once(tasks: Tasks) -> Connector {
    let dials = AtomicU32::new(0);
    Arc::new(move |_: &str, _| {
        let hangs = dials.fetch_add(1, Ordering::Relaxed) == 0;
        let tasks = tasks.clone();
        Box::pin(async move {
            if hangs {
                return pending().await;
            }
            let (ours, theirs) = tokio::io::duplex(1 << 10);
            let service =
                service_fn(async |_| pending::<hyper::Result<http::Response<String>>>().await);
            let server = hyper::server::conn::http2::Builder::new(tasks.clone());
            tasks.spawn(async move {
                let _ = server.serve_connection(TokioIo::new(theirs), service).await;
            });
            Ok(ours)
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_shared_connection_that_does_not_come_about_does_not_hold_up_the_next() {
    let tasks = Tasks::new();
    let (host, port) = ("10.0.0.2".to_owned(), 80);
    let dialer = Dialer::new(host, port, None, Protocol::Http2, None, tasks.clone())
        .over(Transport::Memory(hangs_once(tasks.clone())));
    let bounds = Bounds {
        warm: 0,
        idle: 1,
        idle_timeout: Duration::from_mins(1),
    };
    let pool = Arc::new(Pool::new(Arc::new(dialer), tasks.clone(), bounds));
    let patience = Duration::from_secs(1);
    let (first, second) = tokio::join!(pool.checkout(patience), pool.checkout(patience));
    assert!(first.is_err());
    assert!(second.is_ok());
    drop(second);
    tasks.cut();
    tasks.ended().await;
}
