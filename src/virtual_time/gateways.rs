//! Gateways that share a store: they die, leave, are cut off and hear of each other late or not at
//! all.

mod scenes;
mod storm;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::house::House;
use super::ledger::Ledger;
use super::provider::Fate;
use super::{Run, identity, network};
use crate::cold::job::{
    Callback, CallbackStatus, Job, JobId, Owner, Reason, Status, StoredRequest, UnixMillis,
    virtual_clock,
};
use crate::cold::store::memory::{Kept, MemoryStore, Post, Row};
use crate::cold::store::{DeliveryOutcome, Store as _};
use crate::tasks::Tasks;
use crate::upstream::connect::Connector;

const SECOND: Duration = Duration::from_secs(1);
/// `cold.heartbeat` by default.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What gateways share.
struct Town {
    run: Run,
    ledger: Ledger,
    kept: Kept,
    connector: Connector,
    /// Connections at the providers, and news on their way.
    links: Tasks,
    loss: f64,
    /// Under which names each job's end was told.
    told: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

/// A gateway, and who delivers its callbacks.
struct Member {
    house: House,
    store: Arc<MemoryStore>,
    postman: Tasks,
}

impl Town {
    fn new(seed: u64, fates: &'static [Fate], loss: f64) -> Self {
        virtual_clock::begin(UnixMillis(1_795_514_400_000));
        let run = Run {
            seed,
            length: Duration::from_mins(2),
            rate: 1,
            restarts: false,
            ill: false,
        };
        let (ledger, links) = (Ledger::default(), Tasks::new());
        Self {
            run,
            connector: network(run, &ledger, &links, fates),
            kept: Kept::default(),
            told: Arc::default(),
            ledger,
            links,
            loss,
        }
    }

    /// One more gateway.
    async fn join(&self) -> Member {
        let post = Post {
            lag: Duration::from_millis(20),
            loss: self.loss,
            tasks: self.links.clone(),
            seed: self.run.seed,
        };
        let store = MemoryStore::open(&self.kept, 10_000).taking(|| Duration::from_millis(4));
        let store = Arc::new(store.hearing(post));
        let tick = Duration::from_mins(1);
        let house = House::open(store.clone(), self.connector.clone(), tick).await;
        let postman = Tasks::new();
        postman.spawn(deliver(store.clone(), self.told.clone()));
        Member {
            house,
            store,
            postman,
        }
    }

    fn rows(&self) -> Vec<Row> {
        self.kept.everything()
    }

    /// How often a call was sent.
    fn sent(&self, call: u64) -> usize {
        self.ledger.book().fates(call).count()
    }

    /// How long it takes until something is so; at most five minutes.
    async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !is(self) {
            assert!(began.elapsed() < Duration::from_mins(5), "never: {what}");
            sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    async fn all_end(&self) {
        let ended = |town: &Self| town.rows().iter().all(|row| row.job.status.is_final());
        self.until("all jobs have ended", ended).await;
    }
}

impl Member {
    /// As `kill -9` does.
    async fn dies(self) {
        self.postman.cut();
        self.postman.ended().await;
        self.house.kill().await;
    }

    async fn leaves(self, limit: Duration) {
        self.postman.cut();
        self.postman.ended().await;
        assert_eq!(self.house.drain(limit).await, (0, 0), "tasks are left");
    }
}

/// Delivers what is due; each post takes a while, in which its gateway may die.
async fn deliver(store: Arc<MemoryStore>, told: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>) {
    loop {
        sleep(Duration::from_millis(300)).await;
        let now = UnixMillis::now();
        let due = store.claim_deliveries(16, now, now.plus(45 * SECOND)).await;
        for one in due.unwrap_or_default() {
            sleep(Duration::from_millis(20)).await;
            {
                let mut told = told.lock().unwrap();
                let names = told.entry(one.job.id.to_string()).or_default();
                names.insert(one.webhook_id.clone());
            }
            let _ = store
                .delivered(&one.webhook_id, DeliveryOutcome::Delivered)
                .await;
        }
    }
}

/// A job that waits, with a callback.
pub(super) fn job(route: &str) -> Job {
    let now = UnixMillis::now();
    Job {
        id: JobId::random(),
        owner: Owner::ANYONE,
        status: Status::Queued,
        route: route.into(),
        reason: Reason::Requested,
        budget_ms: 0,
        elapsed_ms: 0,
        created_at: now,
        expires_at: now.plus(Duration::from_mins(2)),
        finished_at: None,
        attempts: 0,
        fence: 0,
        error: None,
        priority: crate::cold::priority::Priority::default(),
        callback: Some(Callback {
            url: "https://hooks.example.com/x".into(),
            status: CallbackStatus::Pending,
            deliveries: 0,
            last_error: None,
        }),
        scope: None,
        background: None,
    }
}

fn request(call: u64, streamed: bool) -> StoredRequest {
    let header = |name: &str, value: String| (name.to_owned(), value.into_bytes());
    StoredRequest {
        method: "POST".into(),
        path_and_query: "/v1/chat/completions".into(),
        headers: vec![
            header("content-type", "application/json".into()),
            header(identity::CALL, call.to_string()),
        ],
        body: identity::request(call, streamed),
    }
}
