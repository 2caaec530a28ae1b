//! What only this store promises; the rest is in the suite of all stores.

mod encrypted;
mod outages;
mod schema;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};

use super::cluster::{Cluster, shared};
use super::{PostgresStore, claims, order, reads};
use crate::cold::job::{JobId, Status, StoredRequest};
use crate::cold::store::suite::{LEASE, NOW, answered, job, request};
use crate::cold::store::{By, News, NewsFeed, Store, StoreError};
use crate::config::{Postgres, PostgresAddress};
use crate::tasks::Tasks;

/// Where the connections of every test live, longer than the test that opened them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
});

fn settings() -> Postgres {
    Postgres {
        writers: 2,
        readers: 1,
        ..Postgres::default()
    }
}

async fn opened(address: String, queue_limit: u64) -> Result<PostgresStore, StoreError> {
    let address = PostgresAddress::parse(&address).unwrap();
    PostgresStore::open(&address, &settings(), queue_limit, Tasks::new()).await
}

/// Opens a store whose connections outlive the test's runtime.
pub fn open(address: &str, queue_limit: u64) -> Result<PostgresStore, StoreError> {
    let opening = RUNTIME.spawn(opened(address.to_owned(), queue_limit));
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| RUNTIME.block_on(opening));
        wait.join().unwrap().unwrap()
    })
}

/// Two gateways on a database.
fn two() -> (Arc<PostgresStore>, Arc<PostgresStore>) {
    let address = shared().address(&shared().database());
    let one = || Arc::new(open(&address, 10_000).unwrap());
    (one(), one())
}

async fn queued(store: &PostgresStore, route: &str) -> JobId {
    let one = job(route, Status::Queued);
    store.insert(one.clone(), request()).await.unwrap();
    one.id
}

#[tokio::test]
async fn two_gateways_never_claim_the_same_job() {
    let (one, other) = two();
    let all = (0..400).map(|_| queued(&one, "chat"));
    let mut made: Vec<_> = futures_util::future::join_all(all).await;
    let mut claimers = tokio::task::JoinSet::new();
    for at in 0..8 {
        let store = if at % 2 == 0 { &one } else { &other }.clone();
        claimers.spawn(async move {
            let mut taken = Vec::new();
            // One that looks while others take may see nothing and yet something is left.
            let mut nothing = 0;
            while nothing < 3 {
                let some = store.claim("chat", 7, NOW).await.unwrap();
                nothing = if some.is_empty() { nothing + 1 } else { 0 };
                taken.extend(some.into_iter().map(|one| one.job.id));
            }
            taken
        });
    }
    let mut taken: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
    taken.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    made.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(taken, made);
}

#[tokio::test]
async fn whoever_lost_its_lease_cannot_end_what_another_took() {
    let (one, other) = two();
    assert!(!one.beat(Duration::from_millis(1), NOW).await.unwrap().lost);
    let id = queued(&one, "chat").await;
    let first = one.claim("chat", 1, NOW).await.unwrap()[0].job.fence;
    let began = Instant::now();
    // Only whoever has renewed for the whole of its lease knows that it was not the database.
    let witness = Duration::from_millis(100);
    while other.beat(witness, NOW).await.unwrap().rescued == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "nobody rescued it"
        );
    }
    let second = other.claim("chat", 1, NOW).await.unwrap()[0].job.clone();
    assert_eq!((second.fence, second.attempts), (first + 1, 2));
    let late = one.finish(&id, By::Run(first), answered(), NOW).await;
    assert_eq!(late.unwrap(), None);
    one.release(&id, first, NOW).await.unwrap();
    let beat = one.beat(LEASE, NOW).await.unwrap();
    assert!(beat.lost && beat.rescued == 0, "{beat:?}");
    assert!(!one.beat(LEASE, NOW).await.unwrap().lost);
    let ended = other
        .finish(&id, By::Run(second.fence), answered(), NOW)
        .await;
    assert_eq!(ended.unwrap().unwrap().status, Status::Succeeded);
    let history = one.history(&id).await.unwrap();
    assert_eq!(history[0].result, "lost");
    assert!(history[0].gateway.contains('/'), "{history:?}");
}

#[tokio::test]
async fn a_database_that_was_away_takes_no_gateway_for_dead() {
    const LEASE: Duration = Duration::from_secs(1);
    let (one, other) = two();
    for store in [&one, &other] {
        store.beat(LEASE, NOW).await.unwrap();
    }
    let id = queued(&one, "chat").await;
    let fence = one.claim("chat", 1, NOW).await.unwrap()[0].job.fence;
    // Nobody reaches it for longer than a lease.
    tokio::time::sleep(LEASE * 3 / 2).await;
    let (back, mut rescued) = (Instant::now(), 0);
    while back.elapsed() < LEASE / 2 {
        rescued += other.beat(LEASE, NOW).await.unwrap().rescued;
    }
    // The other is a moment behind, and still has what it runs.
    assert_eq!(rescued, 0);
    assert!(!one.beat(LEASE, NOW).await.unwrap().lost);
    let ended = one.finish(&id, By::Run(fence), answered(), NOW).await;
    assert_eq!(ended.unwrap().unwrap().attempts, 1);
    // One that does not come back is found out.
    queued(&one, "chat").await;
    one.claim("chat", 1, NOW).await.unwrap();
    let left = Instant::now();
    while other.beat(LEASE, NOW).await.unwrap().rescued == 0 {
        assert!(left.elapsed() < LEASE * 3, "nobody rescued it");
    }
    assert!(left.elapsed() > LEASE / 2, "too soon");
}

#[tokio::test]
async fn whoever_leaves_hands_its_jobs_on_at_once_and_nobody_elses() {
    let (one, other) = two();
    one.beat(LEASE, NOW).await.unwrap();
    other.beat(LEASE, NOW).await.unwrap();
    for _ in 0..4 {
        queued(&one, "chat").await;
    }
    assert_eq!(one.claim("chat", 3, NOW).await.unwrap().len(), 3);
    assert_eq!(other.claim("chat", 3, NOW).await.unwrap().len(), 1);
    assert_eq!(one.leave(NOW).await.unwrap(), 3);
    assert_eq!(other.claim("chat", 9, NOW).await.unwrap().len(), 3);
    assert!(!one.beat(LEASE, NOW).await.unwrap().lost);
}

/// Waits for a piece of news and gives how long it took.
async fn hears(feed: &mut NewsFeed, wanted: News) -> Duration {
    hears_within(feed, wanted, Duration::from_secs(1)).await
}

async fn hears_within(feed: &mut NewsFeed, wanted: News, limit: Duration) -> Duration {
    let began = Instant::now();
    let heard = async {
        while let Some(news) = feed.recv().await {
            if news == wanted {
                return;
            }
        }
        panic!("the feed ended");
    };
    assert!(
        timeout(limit, heard).await.is_ok(),
        "{wanted:?} was not heard"
    );
    began.elapsed()
}

#[tokio::test]
async fn what_one_gateway_writes_wakes_another() {
    let (one, other) = two();
    let mut feed = other.news().unwrap();
    let mut own = one.news().unwrap();
    assert!(other.news().is_none());
    one.beat(LEASE, NOW).await.unwrap();
    hears(&mut feed, News::Missed).await;
    hears(&mut own, News::Missed).await;
    // The first notification opens a connection.
    queued(&one, "first").await;
    hears(&mut feed, News::Due("first".into())).await;
    let mut took = Vec::new();
    for _ in 0..5 {
        let id = queued(&one, "chat").await;
        took.push(hears(&mut feed, News::Due("chat".into())).await);
        let fence = one.claim("chat", 1, NOW).await.unwrap()[0].job.fence;
        took.push(hears(&mut feed, News::Changed(id.clone())).await);
        one.release(&id, fence, NOW).await.unwrap();
        took.push(hears(&mut feed, News::Due("chat".into())).await);
        let by = By::Order;
        one.finish(&id, by, answered(), NOW).await.unwrap();
        took.push(hears(&mut feed, News::Ended(id.clone())).await);
        let later = NOW.plus(Duration::from_hours(1));
        let taken = one.claim_deliveries(9, NOW, later).await.unwrap();
        let done = crate::cold::store::DeliveryOutcome::Delivered;
        one.delivered(&taken[0].webhook_id, done).await.unwrap();
        one.replay_delivery(&id, later).await.unwrap().unwrap();
        took.push(hears(&mut feed, News::Callback).await);
    }
    took.sort();
    println!(
        "news took {:?} at the median, {:?} at most",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    // Nobody hears itself; nothing was missed.
    assert!(own.try_recv().is_err());
}

#[tokio::test]
async fn one_write_that_is_refused_fails_no_other() {
    let database = shared().database();
    let store = Arc::new(open(&shared().address(&database), 1_000).unwrap());
    shared().sql(
        &database,
        "create function shunt.refuses() returns trigger language plpgsql as \
         $$ begin raise exception 'not this one'; end $$; \
         create trigger refuses before insert on shunt.jobs for each row \
         when (new.route = 'bad') execute function shunt.refuses()",
    );
    let routes = (0..60).map(|at| if at % 20 == 7 { "bad" } else { "good" });
    let insert = async |route: &str| {
        let one = job(route, Status::Queued);
        (
            route == "good",
            one.id.clone(),
            store.insert(one, request()).await,
        )
    };
    let all = futures_util::future::join_all(routes.map(insert)).await;
    for (good, id, told) in all {
        assert_eq!(told.is_ok(), good, "{told:?}");
        assert_eq!(store.get(&id).await.unwrap().is_some(), good);
        let why = told.err().map(|why| why.to_string()).unwrap_or_default();
        assert!(good || why.contains("not this one"), "{why}");
    }
}

#[tokio::test]
async fn a_job_that_was_taken_for_nobody_or_refused_to_its_caller_does_not_stay() {
    let (one, _) = two();
    one.beat(LEASE, NOW).await.unwrap();
    let id = queued(&one, "chat").await;
    let refused = job("chat", Status::Running);
    one.insert(refused.clone(), request()).await.unwrap();
    {
        let claim = one.desk.doubts.claim();
        let session = one.taker.session().await.unwrap();
        let by = (one.gateway, claim.number);
        let taken = order::claim(&session, &one.turns, by, ("chat", 1), NOW).await;
        assert_eq!(taken.unwrap().len(), 1);
        // Its answer was lost.
    }
    one.desk.doubts.insert(&refused.id, false);
    one.beat(LEASE, NOW).await.unwrap();
    let again = one.get(&id).await.unwrap().unwrap();
    assert_eq!((again.status, again.attempts), (Status::Queued, 0));
    assert_eq!(one.get(&refused.id).await.unwrap(), None);
    let taken = one.claim("chat", 1, NOW).await.unwrap();
    assert_eq!(taken[0].job.fence, 2);
}

#[tokio::test]
async fn a_job_that_a_key_leads_to_is_queued_though_its_insert_was_doubtful() {
    let (one, _) = two();
    one.beat(LEASE, NOW).await.unwrap();
    let found = job("chat", Status::Running);
    // It comes to light after it was given up.
    one.desk.doubts.insert(&found.id, true);
    one.beat(LEASE, NOW).await.unwrap();
    one.insert_keyed(found.clone(), request()).await.unwrap();
    one.desk.doubts.insert(&found.id, true);
    one.beat(LEASE, NOW).await.unwrap();
    let again = one.get(&found.id).await.unwrap().unwrap();
    assert_eq!(again.status, Status::Queued);
    let taken = one.claim("chat", 1, NOW).await.unwrap();
    assert_eq!(taken[0].job.fence, found.fence + 1);
    // What was taken since stays with whoever took it.
    one.beat(LEASE, NOW).await.unwrap();
    let runs = one.get(&found.id).await.unwrap().unwrap();
    assert_eq!(runs.status, Status::Running);
}

#[tokio::test]
async fn jobs_that_wait_for_their_callbacks_are_passed_by_and_are_not_the_end() {
    let database = shared().database();
    let store = open(&shared().address(&database), 100).unwrap();
    shared().sql(
        &database,
        "insert into shunt.jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, created_at, \
         expires_at, finished_at, attempts, fence, due) select 'job_' || lpad(i::text, 32, '0'), '', \
         'failed', 'chat', 'requested', 1, 1, 1, 9, i / 7, 1, 1, 1 from generate_series(1, 100) i; \
         insert into shunt.deliveries (webhook_id, job_id, url, state) select 'msg_' || id, id, 'u', \
         'pending' from shunt.jobs where finished_at < 14",
    );
    // Of ten at a time nine steps pass by what is kept; the last three end side by side.
    assert_eq!(store.sweep(10, NOW).await.unwrap(), 3);
    assert_eq!(store.sweep(10, NOW).await.unwrap(), 0);
    assert_eq!(store.counts().await.unwrap()[0].2, 97);
}

#[tokio::test]
async fn what_is_handed_over_while_strays_are_looked_for_is_none() {
    let (one, _) = two();
    one.beat(LEASE, NOW).await.unwrap();
    let running = job("chat", Status::Running);
    one.insert(running.clone(), request()).await.unwrap();
    // What was known was listed before.
    assert_eq!(one.strays(Vec::new(), NOW).await.unwrap(), 0);
    assert_eq!(one.get(&running.id).await.unwrap(), Some(running));
}

#[tokio::test]
async fn a_job_that_is_written_twice_stands_once() {
    let (one, other) = two();
    let running = job("chat", Status::Running);
    for store in [&one, &other] {
        store.insert(running.clone(), request()).await.unwrap();
    }
    assert_eq!(
        one.counts().await.unwrap(),
        [("chat".to_owned(), Status::Running, 1)]
    );
}

#[tokio::test]
async fn large_bodies_go_and_come_back() {
    let (one, other) = two();
    let large = job("chat", Status::Queued);
    let body = bytes::Bytes::from(vec![b'x'; 3 << 20]);
    let sent = StoredRequest {
        body: body.clone(),
        ..request()
    };
    let (kept, small) = tokio::join!(one.insert(large.clone(), sent), queued(&one, "small"));
    kept.unwrap();
    assert!(other.get(&small).await.unwrap().is_some());
    let taken = other.claim("chat", 1, NOW).await.unwrap();
    assert_eq!(taken[0].request.body, body);
    let mut outcome = answered();
    outcome.answer.as_mut().unwrap().body = body.clone();
    let by = By::Run(taken[0].job.fence);
    other
        .finish(&large.id, by, outcome, NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(one.answer(&large.id).await.unwrap().unwrap().body, body);
}
