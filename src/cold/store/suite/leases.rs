//! Who may write of a job, in every store.

use super::*;

pub(super) async fn whoever_lost_a_job_to_another_run_writes_nothing_of_it<P: Place>() {
    let place = P::default();
    let store = place.open(9);
    let queued = job("chat", Status::Queued);
    let id = queued.id.clone();
    store.insert(queued, request()).await.unwrap();
    let first = store.claim("chat", 1, NOW).await.unwrap()[0].job.fence;
    store.release(&id, first, NOW).await.unwrap();
    let second = store.claim("chat", 1, NOW).await.unwrap()[0].job.fence;
    assert!(second > first);
    store.release(&id, first, NOW).await.unwrap();
    store.postpone(&id, first, NOW).await.unwrap();
    let late = store.finish(&id, By::Run(first), answered(), NOW).await;
    assert_eq!(late.unwrap(), None);
    let kept = store.get(&id).await.unwrap().unwrap();
    assert_eq!((kept.status, kept.attempts), (Status::Running, 2));
    // An operator's retry is another run, too.
    let failed = Outcome {
        status: Status::Failed,
        ..answered()
    };
    let ended = store.finish(&id, By::Run(second), failed, NOW).await;
    assert_eq!(ended.unwrap().unwrap().status, Status::Failed);
    let later = NOW.plus(Duration::from_hours(1));
    store.retry(&id, NOW, later).await.unwrap().unwrap();
    let late = store.finish(&id, By::Run(second), answered(), NOW).await;
    assert_eq!(late.unwrap(), None);
    assert_eq!(store.answer(&id).await.unwrap(), None);
}

pub(super) async fn who_leaves_gives_back_what_it_runs<P: Place>() {
    let place = P::default();
    let store = place.open(9);
    store.beat(LEASE, NOW).await.unwrap();
    let running = job("chat", Status::Running);
    store.insert(running.clone(), request()).await.unwrap();
    assert_eq!(store.beat(LEASE, NOW).await.unwrap(), Beat::default());
    assert_eq!(store.leave(NOW).await.unwrap(), 1);
    let claimed = store.claim("chat", 1, NOW).await.unwrap();
    assert_eq!(claimed[0].job.id, running.id);
}

pub(super) async fn what_a_claim_took_that_nobody_heard_of_is_due_again_and_was_not_tried<
    P: Place,
>() {
    let place = P::default();
    let store = place.open(9);
    store.beat(LEASE, NOW).await.unwrap();
    let (held, stray) = (job("chat", Status::Running), job("chat", Status::Queued));
    store.insert(held.clone(), request()).await.unwrap();
    store.insert(stray.clone(), request()).await.unwrap();
    assert_eq!(store.claim("chat", 9, NOW).await.unwrap().len(), 1);
    let known = vec![(held.id.clone(), held.fence)];
    assert_eq!(store.strays(known.clone(), NOW).await.unwrap(), 1);
    assert_eq!(store.strays(known, NOW).await.unwrap(), 0);
    let kept = store.get(&stray.id).await.unwrap().unwrap();
    assert_eq!((kept.status, kept.attempts), (Status::Queued, 0));
    assert_eq!(store.get(&held.id).await.unwrap(), Some(held.clone()));
    // Known under an older fence, it is not known.
    assert_eq!(store.claim("chat", 9, NOW).await.unwrap().len(), 1);
    let known = vec![(held.id, held.fence), (stray.id, 1)];
    assert_eq!(store.strays(known, NOW).await.unwrap(), 1);
}
