//! What every store promises of deliveries.

use super::*;

/// A finished job whose delivery is taken.
async fn taken(store: &SharedStore) -> Delivery {
    let running = job("chat", Status::Running);
    store.insert(running.clone(), request()).await.unwrap();
    store
        .finish(&running.id, By::Order, answered(), NOW)
        .await
        .unwrap();
    take(store, NOW).await
}

async fn take(store: &SharedStore, now: UnixMillis) -> Delivery {
    let until = now.plus(Duration::from_hours(1));
    let mut found = store.claim_deliveries(9, now, until).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

async fn callback(store: &SharedStore, id: &JobId) -> Callback {
    store.get(id).await.unwrap().unwrap().callback.unwrap()
}

fn dead(at: UnixMillis) -> DeliveryOutcome {
    let error = "410".to_owned();
    DeliveryOutcome::Dead { at, error }
}

pub async fn a_delivery_that_is_put_off_is_not_counted_and_keeps_its_last_error<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let first = taken(&store).await;
    let (id, name) = (first.job.id.clone(), first.webhook_id);
    assert_eq!(first.since, NOW);
    let at = NOW.plus(Duration::from_secs(5));
    let later = DeliveryOutcome::Later {
        at: NOW,
        error: "500".into(),
    };
    store.delivered(&name, later).await.unwrap();
    for (why, told) in [(None, "500"), (Some("it rests"), "it rests")] {
        take(&store, at).await;
        let why = why.map(str::to_owned);
        let put_off = DeliveryOutcome::PutOff { at, why };
        store.delivered(&name, put_off).await.unwrap();
        let early = store.claim_deliveries(9, NOW, at).await.unwrap();
        assert!(early.is_empty());
        let told = Callback {
            url: "https://hooks.example.com/x".into(),
            status: CallbackStatus::Pending,
            deliveries: 1,
            last_error: Some(told.into()),
        };
        assert_eq!(callback(&store, &id).await, told);
    }
    assert_eq!(take(&store, at).await.webhook_id, name);
}

pub async fn what_was_given_up_is_listed_counted_and_begins_anew_under_the_same_name<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let mut taken_all = Vec::new();
    for second in [2, 1, 3] {
        let one = taken(&store).await;
        let at = NOW.plus(Duration::from_secs(second));
        store.delivered(&one.webhook_id, dead(at)).await.unwrap();
        taken_all.push(one);
    }
    assert_eq!(store.count_dead().await.unwrap(), 3);
    let listed = store.dead_deliveries(2).await.unwrap();
    let ids: Vec<&JobId> = listed.iter().map(|job| &job.id).collect();
    assert_eq!(ids, [&taken_all[2].job.id, &taken_all[0].job.id]);
    let status = listed[0].callback.as_ref().unwrap().status;
    assert_eq!(status, CallbackStatus::Dead);

    let later = NOW.plus(Duration::from_hours(1));
    let again = store.replay_delivery(&taken_all[2].job.id, later).await;
    let again = again.unwrap().unwrap().callback.unwrap();
    assert_eq!(
        (again.status, again.deliveries),
        (CallbackStatus::Pending, 0)
    );
    assert_eq!(store.count_dead().await.unwrap(), 2);
    let early = store.claim_deliveries(9, NOW, NOW).await.unwrap();
    assert!(early.is_empty());
    let replayed = take(&store, later).await;
    assert_eq!(replayed.webhook_id, taken_all[2].webhook_id);
    assert_eq!(replayed.since, later);
}

pub async fn what_was_acknowledged_stays_so_whoever_comes_late<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let one = taken(&store).await;
    let (id, name) = (&one.job.id, &one.webhook_id);
    store.delivered(name, dead(NOW)).await.unwrap();
    let done = DeliveryOutcome::Delivered;
    store.delivered(name, done).await.unwrap();
    let acknowledged = callback(&store, id).await;
    assert_eq!(acknowledged.status, CallbackStatus::Delivered);
    let late = [
        DeliveryOutcome::Later {
            at: NOW,
            error: "500".into(),
        },
        DeliveryOutcome::PutOff { at: NOW, why: None },
        dead(NOW),
    ];
    for outcome in late {
        store.delivered(name, outcome).await.unwrap();
        assert_eq!(callback(&store, id).await, acknowledged);
        let due = store.claim_deliveries(9, NOW, NOW).await.unwrap();
        assert!(due.is_empty());
    }
    assert_eq!(store.count_dead().await.unwrap(), 0);
}

pub async fn only_a_finished_jobs_delivery_that_does_not_run_begins_anew<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let replay = async |id: &JobId| store.replay_delivery(id, NOW).await.unwrap();
    assert_eq!(replay(&JobId::random()).await, None);
    let running = job("chat", Status::Running);
    store.insert(running.clone(), request()).await.unwrap();
    assert_eq!(replay(&running.id).await, None);
    let silent = Job {
        callback: None,
        ..job("chat", Status::Running)
    };
    store.insert(silent.clone(), request()).await.unwrap();
    store
        .finish(&silent.id, By::Order, answered(), NOW)
        .await
        .unwrap();
    assert_eq!(replay(&silent.id).await, None);
    let one = taken(&store).await;
    assert_eq!(replay(&one.job.id).await, None);
    let done = DeliveryOutcome::Delivered;
    store.delivered(&one.webhook_id, done).await.unwrap();
    assert!(replay(&one.job.id).await.is_some());
    assert_eq!(take(&store, NOW).await.webhook_id, one.webhook_id);
}

pub async fn a_job_whose_delivery_was_given_up_is_kept_as_long_as_one_that_finished_then<
    P: Place,
>() {
    let place = P::default();
    let store = place.open(100);
    let one = taken(&store).await;
    let at = NOW.plus(Duration::from_hours(75));
    store.delivered(&one.webhook_id, dead(at)).await.unwrap();
    assert_eq!(store.sweep(9, at).await.unwrap(), 0);
    let after = at.plus(Duration::from_millis(1));
    assert_eq!(store.sweep(9, after).await.unwrap(), 1);
    assert_eq!(store.count_dead().await.unwrap(), 0);
}

pub(super) async fn a_job_that_nobody_heard_of_ends_without_a_callback<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let (refused, told) = (job("chat", Status::Queued), job("chat", Status::Queued));
    store.insert(refused.clone(), request()).await.unwrap();
    store.insert(told.clone(), request()).await.unwrap();
    let cancelled = Outcome {
        status: Status::Cancelled,
        answer: None,
        error: None,
    };
    let ended = store.finish(&refused.id, By::Refused, cancelled.clone(), NOW);
    let ended = ended.await.unwrap().unwrap();
    assert_eq!((ended.status, ended.callback), (Status::Cancelled, None));
    let other = store.finish(&told.id, By::Order, cancelled.clone(), NOW);
    assert!(other.await.unwrap().unwrap().callback.is_some());
    let due = store.claim_deliveries(9, NOW, NOW).await.unwrap();
    let due: Vec<_> = due.iter().map(|one| &one.job.id).collect();
    assert_eq!(due, [&told.id]);
    assert!(store.claim("chat", 9, NOW).await.unwrap().is_empty());
    let again = store.finish(&refused.id, By::Refused, cancelled, NOW).await;
    assert!(again.unwrap().is_none());
}
