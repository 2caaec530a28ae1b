//! What every store promises of the order in which jobs are taken.

use std::collections::BTreeMap;

use rusqlite::{Connection, StatementStatus, params_from_iter, types::Value};

use super::*;
use crate::cold::priority::Priority;
use crate::cold::shares::Shares;

/// A queued job of a caller.
fn of(caller: u8) -> Job {
    Job {
        owner: Owner([caller; 32]),
        ..job("chat", Status::Queued)
    }
}

async fn put(store: &SharedStore, jobs: impl IntoIterator<Item = Job>) {
    for one in jobs {
        store.insert(one, request()).await.unwrap();
    }
}

/// Claims so many times so many, and gives how many jobs each caller got.
async fn shares(store: &SharedStore, times: usize, limit: usize) -> BTreeMap<u8, usize> {
    let mut got = BTreeMap::new();
    for _ in 0..times {
        for claimed in store.claim("chat", limit, NOW).await.unwrap() {
            *got.entry(claimed.job.owner.0[0]).or_default() += 1;
        }
    }
    got
}

pub async fn a_caller_with_many_jobs_does_not_hold_up_one_with_few<P: Place>() {
    // One at a time, as many as there are callers, and more than that.
    for (times, limit) in [(30, 1), (10, 3), (3, 10), (1, 30)] {
        let place = P::default();
        let store = place.open(1_000);
        put(&store, (0..200).map(|_| of(2))).await;
        put(&store, (0..10).flat_map(|_| [of(1), of(3)])).await;
        let got = shares(&store, times, limit).await;
        let fair = BTreeMap::from([(1, 10), (2, 10), (3, 10)]);
        assert_eq!(got, fair, "{times} times {limit}");
        // What the others do not want is for who has more.
        assert_eq!(shares(&store, 1, 100).await, BTreeMap::from([(2, 100)]));
    }
}

pub async fn a_caller_with_a_larger_share_gets_as_many_times_the_jobs<P: Place>() {
    for (times, limit) in [(50, 1), (25, 2), (10, 5), (5, 10), (1, 50)] {
        let place = P::default();
        let store = place.open(1_000);
        store.share_out(Shares::from_iter([(Owner([2; 32]), 3)]));
        put(&store, (0..50).flat_map(|_| [of(1), of(2), of(3)])).await;
        let got = shares(&store, times, limit).await;
        let fair = BTreeMap::from([(1, 10), (2, 30), (3, 10)]);
        assert_eq!(got, fair, "{times} times {limit}");
        // Who has none left takes nothing from the others.
        assert_eq!(
            shares(&store, 1, 99).await,
            BTreeMap::from([(1, 40), (2, 20), (3, 39)])
        );
    }
}

pub async fn whose_turn_it_is_goes_on_where_the_last_claim_ended<P: Place>() {
    let place = P::default();
    let store = place.open(1_000);
    put(&store, (0..50).flat_map(|caller| [of(caller), of(caller)])).await;
    let mut order = Vec::new();
    for _ in 0..20 {
        let claimed = store.claim("chat", 5, NOW).await.unwrap();
        order.extend(claimed.iter().map(|one| one.job.owner.0[0]));
    }
    let (first, second) = order.split_at(50);
    for half in [first, second] {
        let mut half = half.to_vec();
        half.sort_unstable();
        assert_eq!(half, (0..50).collect::<Vec<_>>());
    }
    assert!(store.claim("chat", 5, NOW).await.unwrap().is_empty());
}

pub async fn of_one_caller_s_jobs_priority_then_deadline_then_arrival_decides<P: Place>() {
    let place = P::default();
    let store = place.open(1_000);
    let with = |priority, minutes| Job {
        priority: Priority::new(priority).unwrap(),
        expires_at: NOW.plus(Duration::from_mins(minutes)),
        ..of(1)
    };
    let ranks = [(4, 9), (9, 5), (4, 2), (9, 5), (0, 1), (9, 3), (4, 2)];
    let jobs: Vec<Job> = ranks
        .map(|(priority, minutes)| with(priority, minutes))
        .to_vec();
    put(&store, jobs.clone()).await;
    // Another's highest priority gains nothing over the first.
    let loud = Job {
        priority: Priority::new(9).unwrap(),
        ..of(2)
    };
    put(
        &store,
        (0..9).map(|_| Job {
            id: JobId::random(),
            ..loud.clone()
        }),
    )
    .await;
    let mut order = Vec::new();
    for _ in 0..14 {
        let claimed = store.claim("chat", 1, NOW).await.unwrap().remove(0).job;
        if claimed.owner == jobs[0].owner {
            order.push(jobs.iter().position(|one| one.id == claimed.id).unwrap());
        }
    }
    assert_eq!(order, [5, 1, 3, 2, 6, 0, 4]);
}

pub async fn a_priority_is_kept_and_stays_when_its_job_runs_again<P: Place>() {
    let place = P::default();
    let store = place.open(9);
    let urgent = Job {
        priority: Priority::new(8).unwrap(),
        ..of(1)
    };
    put(&store, [urgent.clone()]).await;
    let id = &urgent.id;
    assert_eq!(store.get(id).await.unwrap().as_ref(), Some(&urgent));
    let failed = Outcome {
        status: Status::Failed,
        ..answered()
    };
    store.finish(id, By::Order, failed, NOW).await.unwrap();
    let later = NOW.plus(Duration::from_hours(1));
    let again = store.retry(id, NOW, later).await.unwrap().unwrap();
    assert_eq!(again.priority, urgent.priority);
    assert_eq!(again.to_json()["priority"], 8);
}

pub async fn what_is_not_due_holds_up_nobody_and_comes_when_it_is<P: Place>() {
    let place = P::default();
    let store = place.open(1_000);
    put(&store, (0..20).map(|_| of(1))).await;
    let later = NOW.plus(Duration::from_secs(30));
    for claimed in store.claim("chat", 20, NOW).await.unwrap() {
        let (id, fence) = (claimed.job.id, claimed.job.fence);
        store.release(&id, fence, later).await.unwrap();
    }
    let new = of(1);
    put(&store, [new.clone()]).await;
    let claimed = store.claim("chat", 9, NOW).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].job.id, new.id);
    // A rest that was put off again counts, not the one before.
    let latest = later.plus(Duration::from_secs(30));
    let fence = claimed[0].job.fence;
    store.postpone(&new.id, fence, latest).await.unwrap();
    assert_eq!(store.claim("chat", 99, later).await.unwrap().len(), 20);
    assert!(store.claim("chat", 99, later).await.unwrap().is_empty());
    assert_eq!(store.claim("chat", 99, latest).await.unwrap().len(), 1);
}

pub async fn a_route_is_due_when_a_claim_of_it_would_take_jobs<P: Place>() {
    let place = P::default();
    let store = place.open(1_000);
    let after = |seconds| NOW.plus(Duration::from_secs(seconds));
    let due = async |at: u64| {
        let mut due = store.due(after(at)).await.unwrap();
        due.sort();
        due
    };
    assert!(due(9).await.is_empty());
    put(
        &store,
        ["b", "a", "c", "a"].map(|route| job(route, Status::Queued)),
    )
    .await;
    put(&store, [job("runs", Status::Running)]).await;
    assert_eq!(due(0).await, ["a", "b", "c"]);
    // Some of a route's jobs are taken, all of another's.
    let taken = store.claim("a", 1, NOW).await.unwrap();
    assert_eq!(store.claim("b", 9, NOW).await.unwrap().len(), 1);
    assert_eq!(due(0).await, ["a", "c"]);
    assert_eq!(store.claim("a", 9, NOW).await.unwrap().len(), 1);
    assert_eq!(due(0).await, ["c"]);
    // One that rests is due when its rest is over.
    let one = &taken[0].job;
    store.release(&one.id, one.fence, after(60)).await.unwrap();
    assert_eq!(due(59).await, ["c"]);
    assert_eq!(due(60).await, ["a", "c"]);
}

pub async fn it_is_known_since_when_jobs_wait_that_could_run<P: Place>() {
    let place = P::default();
    let store = place.open(1_000);
    let after = |seconds| NOW.plus(Duration::from_secs(seconds));
    let came = |route, at: u64| Job {
        created_at: after(at),
        expires_at: after(at + 900),
        ..job(route, Status::Queued)
    };
    assert_eq!(store.oldest(after(9)).await.unwrap(), []);
    put(&store, [came("chat", 5), came("chat", 2), came("other", 4)]).await;
    put(&store, [job("runs", Status::Running)]).await;
    let of = |route: &str, at| (route.to_owned(), after(at));
    assert_eq!(store.oldest(after(3)).await.unwrap(), [of("chat", 2)]);
    let both = [of("chat", 2), of("other", 4)];
    assert_eq!(store.oldest(after(9)).await.unwrap(), both);
    // What is taken waits no more; what rests does not wait until its rest is over.
    let taken = store.claim("chat", 1, after(9)).await.unwrap();
    let next = [of("chat", 5), of("other", 4)];
    assert_eq!(store.oldest(after(9)).await.unwrap(), next);
    let one = &taken[0].job;
    store.release(&one.id, one.fence, after(60)).await.unwrap();
    assert_eq!(store.claim("chat", 9, after(9)).await.unwrap().len(), 1);
    assert_eq!(store.oldest(after(59)).await.unwrap(), [of("other", 4)]);
    let rested = [of("chat", 60), of("other", 4)];
    assert_eq!(store.oldest(after(70)).await.unwrap(), rested);
}

pub async fn what_is_counted_is_what_is_there<P: Place>() {
    let place = P::default();
    let store = place.open(1_000);
    let count = async |status: Status| {
        let counts = store.counts().await.unwrap();
        let one = counts.iter().find(|one| one.0 == "chat" && one.1 == status);
        one.map_or(0, |one| one.2)
    };
    let jobs: Vec<Job> = (0..4).map(of).collect();
    put(&store, jobs.clone()).await;
    put(&store, [job("other", Status::Running)]).await;
    let claimed = store.claim("chat", 3, NOW).await.unwrap();
    assert_eq!(
        (count(Status::Queued).await, count(Status::Running).await),
        (1, 3)
    );
    let later = NOW.plus(Duration::from_hours(1));
    let one = &claimed[0].job;
    store.release(&one.id, one.fence, later).await.unwrap();
    let failed = Outcome {
        status: Status::Failed,
        ..answered()
    };
    for one in &claimed[1..] {
        let by = By::Run(one.job.fence);
        store
            .finish(&one.job.id, by, failed.clone(), NOW)
            .await
            .unwrap();
        store
            .finish(&one.job.id, By::Order, answered(), NOW)
            .await
            .unwrap();
    }
    assert_eq!(
        (count(Status::Queued).await, count(Status::Failed).await),
        (2, 2)
    );
    store
        .retry(&claimed[1].job.id, NOW, later)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (count(Status::Queued).await, count(Status::Failed).await),
        (3, 1)
    );
    let delivery = store
        .claim_deliveries(9, NOW, later)
        .await
        .unwrap()
        .remove(0);
    let told = DeliveryOutcome::Delivered;
    store.delivered(&delivery.webhook_id, told).await.unwrap();
    assert_eq!(store.sweep(9, later).await.unwrap(), 1);
    assert_eq!(
        (count(Status::Failed).await, count(Status::Succeeded).await),
        (0, 0)
    );
    store.leave(NOW).await.unwrap();
    assert_eq!(
        (count(Status::Queued).await, count(Status::Running).await),
        (3, 0)
    );
}

/// Fills a file with jobs: every `resting`-th of a hundred is not due.
fn fill(connection: &Connection, jobs: u32, callers: u32, resting: u32) {
    let sql = "with recursive n (i) as (select 0 union all select i + 1 from n where i < ?1 - 1) \
        insert into jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, created_at, \
        expires_at, attempts, due, priority, ready) \
        select printf('job_%032x', i), unhex(printf('%064x', (i * 7919) % ?2)), 'queued', 'chat', \
        'requested', 0, 0, ?3, ?3 + (i * 7919) % 900000, 0, ?3 + 3600000 * (i % 100 < ?4), i % 10, \
        (i % 100 >= ?4) from n";
    let values = rusqlite::params![jobs, callers, NOW.0, resting];
    connection.execute(sql, values).unwrap();
}

/// The steps that a statement of the claim takes in SQLite's machine.
fn steps(connection: &Connection, sql: &str, values: &[Value]) -> i32 {
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query(params_from_iter(values)).unwrap();
    while rows.next().unwrap().is_some() {}
    drop(rows);
    statement.get_status(StatementStatus::VmStep)
}

/// Steps of a claim of `limit` jobs.
fn cost(jobs: u32, callers: u32, resting: u32) -> Vec<i32> {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let connection = Connection::open(folder.path().join("jobs.db")).unwrap();
    fill(&connection, jobs, callers, resting);
    let (route, limit) = (Value::from("chat".to_owned()), Value::from(8));
    // The first caller, and one in the midst of ten thousand.
    let caller = |number: u16| {
        let mut name = vec![0u8; 30];
        name.extend(number.to_be_bytes());
        Value::from(name)
    };
    let [promote, next_callers, next_jobs] = super::super::sqlite::CLAIM;
    let now = Value::from(NOW.0);
    vec![
        steps(&connection, promote, &[route.clone(), now, limit.clone()]),
        steps(
            &connection,
            next_callers,
            &[route.clone(), caller(0), limit.clone()],
        ),
        steps(
            &connection,
            next_callers,
            &[route.clone(), caller(5_000), limit.clone()],
        ),
        steps(&connection, next_jobs, &[route, caller(0), limit]),
    ]
}

#[test]
fn a_claim_costs_the_same_at_any_depth() {
    for resting in [0, 99] {
        for callers in [1, 100, 10_000] {
            let shallow = cost(1_000, callers, resting);
            let deep = cost(100_000, callers, resting);
            for (shallow, deep) in shallow.iter().zip(&deep) {
                assert!(
                    deep <= &(2 * shallow + 500),
                    "{callers} {resting}: {shallow} {deep}"
                );
            }
        }
    }
}
