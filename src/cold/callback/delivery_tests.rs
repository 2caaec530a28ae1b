//! Deliveries on virtual time, over a store in memory.

mod house;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::house::{House, NOW, SECOND, Script, TIMEOUT, deliverer, status};
use super::attempt::Ready;
use super::battery::{World, guard, sender};
use super::send::{Reply, SendError};
use crate::cold::job::{CallbackStatus, UnixMillis, virtual_clock};
use crate::cold::store::DeliveryOutcome;
use crate::cold::store::memory::{Kept, MemoryStore};

const QUICK: Duration = Duration::from_millis(5);

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_uses_up_nothing_of_a_delivery_s_schedule() {
    let receiver = Script::new(|_| (Duration::ZERO, status(204)));
    virtual_clock::begin(NOW);
    let memory = Arc::new(MemoryStore::open(&Kept::default(), 10));
    let reach = memory.reach.clone();
    let deliverer = Arc::new(deliverer(memory, receiver.clone(), &[3_600 * SECOND]));
    let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let house = House {
        store: deliverer.store.clone(),
        wake: wake.clone(),
        stop: stop.clone(),
    };
    let id = house.finish("https://a.example/").await;
    let ready = |delivery| Ready::new(delivery, &deliverer.guard).ok().unwrap();
    let until = NOW.plus(45 * SECOND);
    let mut taken = house.store.claim_deliveries(1, NOW, until).await.unwrap();
    reach.cut(true);
    let (outcome, _) = deliverer.attempt(&ready(taken.remove(0))).await;
    reach.cut(false);
    assert!(
        matches!(outcome, DeliveryOutcome::PutOff { .. }),
        "{outcome:?}"
    );
    assert_eq!(receiver.calls("a.example").len(), 0);
    // Though the schedule's next is in an hour.
    tokio::spawn(deliverer.clone().run(stop, wake));
    sleep(60 * SECOND).await;
    let callback = house.callback(&id).await;
    assert_eq!(callback.status, CallbackStatus::Delivered);
    assert_eq!(receiver.calls("a.example").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_never_answers_takes_up_no_others_places() {
    let script = Script::new(|host| match host {
        "hole.example.com" => (TIMEOUT, Err(SendError::TimedOut(TIMEOUT))),
        _ => (QUICK, status(204)),
    });
    let house = House::open(script.clone(), &[60 * SECOND; 3]);
    for _ in 0..2_000 {
        house.finish("https://hole.example.com/x").await;
    }
    sleep(SECOND).await;
    for second in 0..60 {
        let began = Instant::now();
        let well = house
            .finish(&format!("https://well.example.com/{second}"))
            .await;
        while house.callback(&well).await.status != CallbackStatus::Delivered {
            sleep(QUICK).await;
        }
        let took = began.elapsed();
        assert!(took < SECOND, "{second}: {took:?}");
        sleep(SECOND).await;
    }
    assert_eq!(script.most_at_once("hole.example.com"), 8);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_results_for_one_quick_receiver_are_delivered_at_its_pace() {
    let script = Script::new(|_| (QUICK, status(204)));
    let house = House::open(script.clone(), &[60 * SECOND]);
    let mut ids = Vec::new();
    for _ in 0..1_000 {
        ids.push(house.finish("https://one.example.com/x").await);
    }
    // 1,000 of 5 ms, eight at once, take 0.63 s; what was put off at first comes some later.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(house.count(&ids, CallbackStatus::Delivered).await, 1_000);
    assert_eq!(script.calls("one.example.com").len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_fails_rests_and_its_deliveries_are_not_used_up() {
    let began = Instant::now();
    let outage = 1_800 * SECOND;
    let script = Script::new(move |_| {
        let down = began.elapsed() < outage;
        (QUICK, status(if down { 500 } else { 204 }))
    });
    let house = House::open(script.clone(), &[5 * SECOND, 300 * SECOND, 3_600 * SECOND]);
    let mut ids = Vec::new();
    for _ in 0..500 {
        ids.push(house.finish("https://down.example.com/x").await);
    }
    sleep(600 * SECOND).await;
    let told = house.callback(&ids[499]).await;
    assert!(told.last_error.unwrap().contains("failures in a row"));
    sleep(outage.saturating_sub(began.elapsed())).await;
    let calls = script.calls("down.example.com").len();
    assert!(calls < 30, "{calls} calls in an outage of half an hour");
    // Its longest rest, and the minute over which what waits is spread.
    sleep(Duration::from_secs(600 + 61)).await;
    let delivered = house.count(&ids, CallbackStatus::Delivered).await;
    assert!(delivered >= 490, "{delivered}");
    // Those that were tried in the outage follow their own schedule.
    sleep(Duration::from_secs(3_700)).await;
    assert_eq!(house.count(&ids, CallbackStatus::Delivered).await, 500);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_put_off_for_longer_than_its_schedule_is_given_up_with_the_reason() {
    let script = Script::new(|_| (TIMEOUT, Err(SendError::TimedOut(TIMEOUT))));
    let house = House::open(script.clone(), &[5 * SECOND, 60 * SECOND]);
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(house.finish("https://gone.example.com/x").await);
    }
    sleep(Duration::from_hours(23)).await;
    assert!(house.count(&ids, CallbackStatus::Pending).await > 0);
    sleep(Duration::from_hours(2)).await;
    assert_eq!(house.count(&ids, CallbackStatus::Dead).await, 100);
    let told = house.callback(&ids[99]).await;
    assert!(told.last_error.is_some(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_hardly_tried_outlives_an_outage_longer_than_its_schedule() {
    let began = Instant::now();
    let outage = 1_800 * SECOND;
    let script = Script::new(move |_| {
        let down = began.elapsed() < outage;
        (QUICK, status(if down { 500 } else { 204 }))
    });
    let house = House::open(script, &[SECOND, 5 * SECOND, 30 * SECOND]);
    let mut ids = Vec::new();
    for _ in 0..1_000 {
        ids.push(house.finish("https://down.example.com/x").await);
    }
    // Its longest rest, and the minute over which what waits is spread.
    sleep(outage + Duration::from_mins(12)).await;
    let delivered = house.count(&ids, CallbackStatus::Delivered).await;
    assert!(delivered >= 980, "{delivered}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_for_time_gets_it_for_all_its_deliveries() {
    let began = Instant::now();
    let script = Script::new(move |_| {
        if began.elapsed() > 100 * SECOND {
            return (QUICK, status(204));
        }
        let reply = Reply {
            status: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(120 * SECOND),
        };
        (QUICK, Ok(reply))
    });
    let house = House::open(script.clone(), &[SECOND; 3]);
    let first = house.finish("https://busy.example.com/1").await;
    sleep(SECOND).await;
    let second = house.finish("https://busy.example.com/2").await;
    sleep(118 * SECOND).await;
    assert_eq!(script.calls("busy.example.com").len(), 1);
    sleep(62 * SECOND).await;
    let all = [first, second];
    assert_eq!(house.count(&all, CallbackStatus::Delivered).await, 2);
    assert_eq!(script.calls("busy.example.com").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_410_ends_it_a_redirect_is_a_failure_and_a_replay_begins_under_the_same_name() {
    let script = Script::new(|host| match host {
        "gone.example.com" => (QUICK, status(410)),
        _ => (QUICK, status(302)),
    });
    let house = House::open(script.clone(), &[SECOND]);
    let gone = house.finish("https://gone.example.com/").await;
    let moved = house.finish("https://moved.example.com/").await;
    sleep(5 * SECOND).await;
    let told = house.callback(&gone).await;
    assert_eq!((told.status, told.deliveries), (CallbackStatus::Dead, 1));
    assert!(told.last_error.unwrap().contains("410"));
    let told = house.callback(&moved).await;
    assert_eq!((told.status, told.deliveries), (CallbackStatus::Dead, 2));
    assert!(
        told.last_error
            .unwrap()
            .contains("redirects are not followed")
    );
    assert_eq!(house.store.count_dead().await.unwrap(), 2);

    let now = UnixMillis::now();
    house.store.replay_delivery(&moved, now).await.unwrap();
    sleep(5 * SECOND).await;
    let told = house.callback(&moved).await;
    assert_eq!((told.status, told.deliveries), (CallbackStatus::Dead, 2));
    let calls = script.calls("moved.example.com");
    assert_eq!(calls.len(), 4);
    assert!(calls.iter().all(|(_, id)| *id == calls[0].1));
}

/// A name that is public when it is first asked for, and then is not.
#[tokio::test(start_paused = true)]
async fn a_name_that_turns_inside_ends_its_delivery_with_the_reason_on_the_job() {
    let world = World::with(
        "hooks.example.com",
        &[&["93.184.216.34"], &["93.184.216.34", "10.0.0.1"]],
    );
    let world = Arc::new(world);
    let house = House::open(Arc::new(sender(guard(&[]), world.clone())), &[SECOND; 3]);
    let turned = house.finish("https://hooks.example.com/").await;
    let inside = house.finish("https://[::ffff:10.0.0.1]/").await;
    sleep(60 * SECOND).await;
    let told = house.callback(&turned).await;
    assert_eq!((told.status, told.deliveries), (CallbackStatus::Dead, 2));
    assert!(
        told.last_error
            .unwrap()
            .contains("an address that is not public")
    );
    let told = house.callback(&inside).await;
    assert_eq!((told.status, told.deliveries), (CallbackStatus::Dead, 1));
    assert!(told.last_error.unwrap().contains("is not a public address"));
    let reached = world.reached.lock().unwrap();
    assert_eq!(*reached, ["93.184.216.34:443".parse().unwrap()]);
}
