use std::sync::atomic::AtomicBool;

use futures_util::FutureExt as _;
use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn wait(permits: &Arc<Permits>, left: Option<Duration>, now: Instant) -> Result<Waiting, Duration> {
    permits.wait(Claimant::default(), left, now)
}

fn fixed(limit: u32, queue: usize) -> Arc<Permits> {
    let settings = Concurrency {
        mode: ConcurrencyMode::Fixed,
        limit,
        queue,
        ..Concurrency::default()
    };
    Permits::new(&settings).expect("it has a limit")
}

#[tokio::test(start_paused = true)]
async fn as_many_as_the_limit_get_in_and_a_dropped_permit_frees_its_place() {
    let (permits, now) = (fixed(2, 0), Instant::now());
    let first = permits.take(now);
    let second = permits.take(now);
    assert!(first.is_some() && second.is_some());
    assert!(permits.take(now).is_none());
    drop(first);
    assert!(permits.take(now).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_free_place_goes_to_who_waits_and_who_left_gets_none() {
    let (permits, now) = (fixed(1, 9), Instant::now());
    let held = permits.take(now);
    let left = wait(&permits, None, now).expect("there is room");
    let mut waits = wait(&permits, None, now).expect("there is room");
    assert!((&mut waits).now_or_never().is_none());
    drop(left);
    assert_eq!(permits.waiting(), 1);
    drop(held);
    let served = (&mut waits).now_or_never().expect("it is its turn");
    assert!(permits.take(now).is_none());
    drop(served);
    assert_eq!((permits.taken(), permits.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_came_as_the_caller_left_is_free_again() {
    let (permits, now) = (fixed(1, 9), Instant::now());
    let held = permits.take(now);
    let waits = wait(&permits, None, now).expect("there is room");
    drop(held);
    assert_eq!(permits.taken(), 1);
    drop(waits);
    assert_eq!(permits.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_deadline_that_comes_first_are_told_at_once() {
    let permits = fixed(2, 3);
    let held = permits.take(Instant::now());
    advance(4 * SECOND).await;
    drop(held);
    // A place is held for four seconds on average: one of two is free in two.
    let now = Instant::now();
    let _places = [permits.take(now), permits.take(now)];
    assert_eq!(wait(&permits, Some(SECOND), now).err(), Some(2 * SECOND));
    let _one = wait(&permits, Some(3 * SECOND), now).expect("in time");
    assert_eq!(
        wait(&permits, Some(3 * SECOND), now).err(),
        Some(4 * SECOND)
    );
    let _two = wait(&permits, None, now).expect("it has time");
    let _three = wait(&permits, None, now).expect("it has time");
    assert_eq!(wait(&permits, None, now).err(), Some(8 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn jobs_take_no_place_that_a_caller_waits_for() {
    let (permits, now) = (fixed(2, 9), Instant::now());
    assert_eq!(permits.spare(), 2);
    let places = [permits.take(now), permits.take(now)];
    let _waits = wait(&permits, None, now);
    assert_eq!(permits.spare(), 0);
    drop(places);
    assert_eq!(permits.spare(), 1);
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .expect("a runtime");
    let permits = fixed(3, usize::MAX);
    let over = Arc::new(AtomicBool::new(false));
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let (permits, over) = (permits.clone(), over.clone());
            runtime.spawn(async move {
                for _ in 0..50 {
                    let now = Instant::now();
                    let permit = match permits.take(now) {
                        Some(permit) => permit,
                        None => wait(&permits, None, now).expect("there is room").await,
                    };
                    over.fetch_or(permits.taken() > 3, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    drop(permit);
                }
            })
        })
        .collect();
    let all = futures_util::future::join_all(calls);
    let ended = async { tokio::time::timeout(30 * SECOND, all).await };
    for call in runtime.block_on(ended).expect("all are served") {
        call.expect("no call panics");
    }
    assert!(!over.load(Ordering::Relaxed));
    assert_eq!((permits.taken(), permits.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_a_failed_call_held_long_is_not_free_sooner_and_one_that_it_held_shortly_tells_nothing()
 {
    let permits = fixed(1, 9);
    for (seconds, expected) in [(4, 4), (0, 4), (14, 5)] {
        let mut held = permits.take(Instant::now()).expect("it is free");
        advance(seconds * SECOND).await;
        held.is_no_measure();
        drop(held);
        assert_eq!(permits.held(), expected * SECOND);
    }
}
