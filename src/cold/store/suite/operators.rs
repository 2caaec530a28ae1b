//! What operators ask of every store: histories, and jobs that run again.

use super::*;

pub(super) fn ended(number: u32) -> AttemptRecord {
    AttemptRecord {
        number,
        target: Some("sim".into()),
        began: Some(NOW),
        ended: NOW.plus(Duration::from_secs(1)),
        result: "failed".into(),
        status: Some(500),
        error: Some("the provider answered 500".into()),
        gateway: "host/1".into(),
    }
}

pub(super) async fn a_failed_job_runs_again_from_what_was_kept_and_is_told_as_another_event<
    P: Place,
>() {
    let place = P::default();
    let store = place.open(1);
    let running = job("chat", Status::Running);
    let id = running.id.clone();
    store.insert(running, request()).await.unwrap();
    let later = NOW.plus(Duration::from_hours(1));
    assert_eq!(store.retry(&id, NOW, later).await.unwrap(), None);
    let failed = Outcome {
        status: Status::Failed,
        ..answered()
    };
    store.finish(&id, By::Order, failed, NOW).await.unwrap();
    let first = store.claim_deliveries(9, NOW, later).await.unwrap();
    let again = store.retry(&id, NOW, later).await.unwrap().unwrap();
    assert_eq!((again.status, again.attempts), (Status::Queued, 0));
    assert_eq!((again.expires_at, again.finished_at), (later, None));
    assert_eq!(store.answer(&id).await.unwrap(), None);
    // It counts in the queue.
    let refused = store.insert(job("chat", Status::Queued), request()).await;
    assert!(matches!(refused, Err(StoreError::QueueFull { limit: 1 })));
    let claimed = store.claim("chat", 9, NOW).await.unwrap();
    assert_eq!(claimed[0].request, request());
    let done = store
        .finish(&id, By::Order, answered(), NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((done.status, done.attempts), (Status::Succeeded, 1));
    let second = store.claim_deliveries(9, NOW, later).await.unwrap();
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].webhook_id, second[0].webhook_id);
    assert_eq!(store.retry(&id, NOW, later).await.unwrap(), None);
}

pub(super) async fn a_job_s_history_is_kept_and_tells_of_attempts_that_died<P: Place>() {
    let place = P::default();
    let running = job("chat", Status::Running);
    {
        let store = place.open(9);
        store.insert(running.clone(), request()).await.unwrap();
        store.note(&running.id, vec![ended(1)]).await.unwrap();
        let nobody = JobId::random();
        store.note(&nobody, vec![ended(1)]).await.unwrap();
        assert_eq!(store.history(&nobody).await.unwrap(), []);
    }
    let store = place.open(9);
    store.beat(LEASE, NOW).await.unwrap();
    let history = store.history(&running.id).await.unwrap();
    assert_eq!(history[0], ended(1));
    assert_eq!(history[1].result, "lost");
    for number in 0..KEPT {
        store.note(&running.id, vec![ended(number)]).await.unwrap();
    }
    let history = store.history(&running.id).await.unwrap();
    assert_eq!(history.len(), KEPT as usize);
    assert_eq!(history.last(), Some(&ended(KEPT - 1)));
    assert_eq!(history[0], ended(0));
}
