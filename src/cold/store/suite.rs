//! What every store must keep to; run against each.

mod deliveries;
mod files;
mod keys;
mod leases;
mod operators;
mod order;
mod places;
pub(super) mod seals;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::deliveries::*;
use self::keys::*;
use self::leases::*;
use self::operators::*;
use self::order::*;
use self::places::{Database, Folder, Place};
use super::memory::Kept;
use super::sqlite::SqliteStore;
use super::*;
use crate::cold::background::Background;
use crate::cold::history::{AttemptRecord, KEPT};
use crate::cold::job::{Callback, CallbackStatus, Reason};
use crate::cold::priority::Priority;
use crate::cold::recall::{self, Became, CallKey};

/// Longer than any test.
pub(super) const LEASE: Duration = Duration::from_hours(1);

pub(in crate::cold) const NOW: UnixMillis = UnixMillis(1_795_514_400_000);

pub(in crate::cold) fn job(route: &str, status: Status) -> Job {
    Job {
        id: JobId::random(),
        owner: Owner::ANYONE,
        status,
        route: route.into(),
        reason: Reason::BudgetExceeded,
        budget_ms: 500,
        elapsed_ms: 498,
        created_at: NOW,
        expires_at: NOW.plus(Duration::from_mins(15)),
        finished_at: None,
        attempts: u32::from(status == Status::Running),
        fence: u64::from(status == Status::Running),
        error: None,
        callback: Some(Callback {
            url: "https://hooks.example.com/x".into(),
            status: CallbackStatus::Pending,
            deliveries: 0,
            last_error: None,
        }),
        scope: None,
        background: Some(Background {
            model: Some("gpt-4o".into()),
            metadata: Some(serde_json::json!({"k": "v"})),
            stream: true,
        }),
        priority: Priority::default(),
    }
}

pub(in crate::cold) fn request() -> StoredRequest {
    StoredRequest {
        method: "POST".into(),
        path_and_query: "/v1/chat/completions?x=1".into(),
        headers: vec![("authorization".into(), b"Bearer very-secret-key".to_vec())],
        body: Bytes::from_static(b"{\"model\":\"m\"}"),
    }
}

pub(in crate::cold) fn answered() -> Outcome {
    Outcome {
        status: Status::Succeeded,
        answer: Some(StoredAnswer {
            status: 200,
            headers: vec![("content-type".into(), b"application/json: x".to_vec())],
            body: Bytes::from_static(b"{\"ok\":true}"),
            timing: "[[11,40]]".into(),
        }),
        error: None,
    }
}

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(&folder.join("jobs.db"), 100).unwrap()
}

macro_rules! every_store {
    ($($promise:ident),+ $(,)?) => {
        mod in_a_file {
            $(#[tokio::test] async fn $promise() { super::$promise::<super::Folder>().await; })+
        }
        mod in_memory {
            $(#[tokio::test] async fn $promise() { super::$promise::<super::Kept>().await; })+
        }
        mod sealed_in_a_file {
            use super::seals::SealedFolder;
            $(#[tokio::test] async fn $promise() { super::$promise::<SealedFolder>().await; })+
        }
        mod sealed_in_memory {
            use super::seals::SealedKept;
            $(#[tokio::test] async fn $promise() { super::$promise::<SealedKept>().await; })+
        }
        mod in_postgres {
            $(#[tokio::test] async fn $promise() { super::$promise::<super::Database>().await; })+
        }
    };
}

every_store! {
    what_was_kept_is_there_after_a_restart,
    a_job_is_claimed_once_and_the_oldest_first,
    a_final_state_never_changes_and_is_told_with_its_callback,
    a_job_that_nobody_heard_of_ends_without_a_callback,
    a_delivery_in_progress_when_the_process_died_is_due_again,
    past_the_queue_limit_a_job_is_refused_and_a_finished_one_makes_room,
    jobs_that_arrive_together_are_all_kept_and_counted,
    a_caller_lists_its_own_newest_first,
    what_is_overdue_is_named_and_what_is_old_is_swept_once_it_was_told,
    a_postponed_job_is_due_again_as_if_it_had_not_been_tried,
    what_a_key_stands_for_is_there_after_a_restart_and_is_swept_in_time,
    a_key_whose_time_is_over_is_free_before_it_is_swept,
    a_scope_lists_its_own_unfinished_jobs,
    a_delivery_that_is_put_off_is_not_counted_and_keeps_its_last_error,
    what_was_given_up_is_listed_counted_and_begins_anew_under_the_same_name,
    what_was_acknowledged_stays_so_whoever_comes_late,
    only_a_finished_jobs_delivery_that_does_not_run_begins_anew,
    a_job_whose_delivery_was_given_up_is_kept_as_long_as_one_that_finished_then,
    a_failed_job_runs_again_from_what_was_kept_and_is_told_as_another_event,
    a_job_s_history_is_kept_and_tells_of_attempts_that_died,
    whoever_lost_a_job_to_another_run_writes_nothing_of_it,
    who_leaves_gives_back_what_it_runs,
    what_a_claim_took_that_nobody_heard_of_is_due_again_and_was_not_tried,
    a_caller_with_many_jobs_does_not_hold_up_one_with_few,
    a_caller_with_a_larger_share_gets_as_many_times_the_jobs,
    whose_turn_it_is_goes_on_where_the_last_claim_ended,
    of_one_caller_s_jobs_priority_then_deadline_then_arrival_decides,
    a_priority_is_kept_and_stays_when_its_job_runs_again,
    what_is_not_due_holds_up_nobody_and_comes_when_it_is,
    what_is_counted_is_what_is_there,
    a_route_is_due_when_a_claim_of_it_would_take_jobs,
    it_is_known_since_when_jobs_wait_that_could_run,
}

async fn what_was_kept_is_there_after_a_restart<P: Place>() {
    let place = P::default();
    let running = job("chat", Status::Running);
    {
        let store = place.open(100);
        store.insert(running.clone(), request()).await.unwrap();
        assert_eq!(store.get(&running.id).await.unwrap(), Some(running.clone()));
    }
    let store = place.open(100);
    assert_eq!(store.beat(LEASE, NOW).await.unwrap().rescued, 1);
    let claimed = store.claim("chat", 10, NOW).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].request, request());
    assert_eq!(claimed[0].job.attempts, 2);
}

async fn a_job_is_claimed_once_and_the_oldest_first<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let queued = job("chat", Status::Queued);
        store.insert(queued.clone(), request()).await.unwrap();
        jobs.push(queued.id);
    }
    store
        .insert(job("other", Status::Queued), request())
        .await
        .unwrap();
    let first = store.claim("chat", 2, NOW).await.unwrap();
    let second = store.claim("chat", 2, NOW).await.unwrap();
    let claimed: Vec<JobId> = first
        .into_iter()
        .chain(second)
        .map(|one| one.job.id)
        .collect();
    assert_eq!(claimed, jobs);
}

async fn a_postponed_job_is_due_again_as_if_it_had_not_been_tried<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let queued = job("chat", Status::Queued);
    store.insert(queued.clone(), request()).await.unwrap();
    for _ in 0..3 {
        let claimed = store.claim("chat", 1, NOW).await.unwrap();
        assert_eq!(claimed[0].job.attempts, 1);
        store
            .postpone(&queued.id, claimed[0].job.fence, NOW)
            .await
            .unwrap();
        let kept = store.get(&queued.id).await.unwrap().unwrap();
        assert_eq!((kept.status, kept.attempts), (Status::Queued, 0));
    }
    let later = NOW.plus(Duration::from_secs(1));
    let last = store.claim("chat", 1, NOW).await.unwrap()[0].job.fence;
    store.postpone(&queued.id, last - 1, NOW).await.unwrap();
    let kept = store.get(&queued.id).await.unwrap().unwrap();
    assert_eq!(kept.status, Status::Running);
    store.postpone(&queued.id, last, later).await.unwrap();
    assert!(store.claim("chat", 1, NOW).await.unwrap().is_empty());
    store
        .finish(&queued.id, By::Order, answered(), NOW)
        .await
        .unwrap();
    store.postpone(&queued.id, last, NOW).await.unwrap();
    let kept = store.get(&queued.id).await.unwrap().unwrap();
    assert_eq!(kept.status, Status::Succeeded);
}

async fn a_final_state_never_changes_and_is_told_with_its_callback<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let running = job("chat", Status::Running);
    store.insert(running.clone(), request()).await.unwrap();
    assert!(
        store
            .claim_deliveries(9, NOW, NOW)
            .await
            .unwrap()
            .is_empty()
    );
    let ended = store
        .finish(&running.id, By::Order, answered(), NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.status, Status::Succeeded);
    let again = Outcome {
        status: Status::Cancelled,
        answer: None,
        error: None,
    };
    assert!(
        store
            .finish(&running.id, By::Order, again, NOW)
            .await
            .unwrap()
            .is_none()
    );
    store.release(&running.id, 1, NOW).await.unwrap();
    assert_eq!(
        store.get(&running.id).await.unwrap().unwrap().status,
        Status::Succeeded
    );
    assert_eq!(store.answer(&running.id).await.unwrap(), answered().answer);

    let later = NOW.plus(Duration::from_secs(30));
    let taken = store.claim_deliveries(9, NOW, later).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert!(
        store
            .claim_deliveries(9, NOW, later)
            .await
            .unwrap()
            .is_empty()
    );
    let outcome = DeliveryOutcome::Later {
        at: later,
        error: "500".into(),
    };
    store
        .delivered(&taken[0].webhook_id, outcome)
        .await
        .unwrap();
    let retaken = store.claim_deliveries(9, later, later).await.unwrap();
    assert_eq!(retaken[0].webhook_id, taken[0].webhook_id);
    assert_eq!(retaken[0].job.callback.as_ref().unwrap().deliveries, 1);
    store
        .delivered(&taken[0].webhook_id, DeliveryOutcome::Delivered)
        .await
        .unwrap();
    let callback = store
        .get(&running.id)
        .await
        .unwrap()
        .unwrap()
        .callback
        .unwrap();
    assert_eq!(callback.status, CallbackStatus::Delivered);
}

async fn a_delivery_in_progress_when_the_process_died_is_due_again<P: Place>() {
    let place = P::default();
    let id = {
        let store = place.open(100);
        let running = job("chat", Status::Running);
        store.insert(running.clone(), request()).await.unwrap();
        store
            .finish(&running.id, By::Order, answered(), NOW)
            .await
            .unwrap();
        let far = NOW.plus(Duration::from_hours(1));
        store.claim_deliveries(9, NOW, far).await.unwrap()[0]
            .webhook_id
            .clone()
    };
    let store = place.open(100);
    store.beat(LEASE, NOW).await.unwrap();
    let again = store.claim_deliveries(9, NOW, NOW).await.unwrap();
    assert_eq!(again[0].webhook_id, id);
}

async fn past_the_queue_limit_a_job_is_refused_and_a_finished_one_makes_room<P: Place>() {
    let place = P::default();
    let store = place.open(1);
    let first = job("chat", Status::Running);
    store.insert(first.clone(), request()).await.unwrap();
    let refused = store.insert(job("chat", Status::Running), request()).await;
    assert!(matches!(refused, Err(StoreError::QueueFull { limit: 1 })));
    store
        .finish(&first.id, By::Order, answered(), NOW)
        .await
        .unwrap();
    store
        .insert(job("chat", Status::Running), request())
        .await
        .unwrap();
}

async fn jobs_that_arrive_together_are_all_kept_and_counted<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        all.spawn(async move { store.insert(job("chat", Status::Queued), request()).await });
    }
    for done in all.join_all().await {
        done.unwrap();
    }
    let counts = store.counts().await.unwrap();
    assert_eq!(counts, [("chat".to_owned(), Status::Queued, 50)]);
}

async fn a_caller_lists_its_own_newest_first<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let mine = Owner([7; 32]);
    let mut ids = Vec::new();
    for at in 0..5 {
        let mut one = job("chat", Status::Queued);
        one.owner = if at == 2 { Owner::ANYONE } else { mine };
        ids.push(one.id.clone());
        store.insert(one, request()).await.unwrap();
    }
    let query = |after| ListQuery {
        owner: Some(mine),
        limit: 2,
        after,
        ..ListQuery::default()
    };
    let names = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    let first = names(store.list(query(None)).await.unwrap());
    assert_eq!(first, [ids[4].clone(), ids[3].clone()]);
    let second = names(store.list(query(first.last().cloned())).await.unwrap());
    assert_eq!(second, [ids[1].clone(), ids[0].clone()]);
}

async fn what_is_overdue_is_named_and_what_is_old_is_swept_once_it_was_told<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let one = job("chat", Status::Running);
    store.insert(one.clone(), request()).await.unwrap();
    assert!(store.overdue(9, NOW).await.unwrap().is_empty());
    assert_eq!(
        store.overdue(9, one.expires_at).await.unwrap(),
        std::slice::from_ref(&one.id)
    );
    store
        .finish(&one.id, By::Order, answered(), NOW)
        .await
        .unwrap();
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(store.sweep(9, later).await.unwrap(), 0);
    let taken = store.claim_deliveries(9, NOW, later).await.unwrap();
    store
        .delivered(&taken[0].webhook_id, DeliveryOutcome::Delivered)
        .await
        .unwrap();
    assert_eq!(store.sweep(9, later).await.unwrap(), 1);
    assert_eq!(store.get(&one.id).await.unwrap(), None);
    assert_eq!(store.answer(&one.id).await.unwrap(), None);
}
