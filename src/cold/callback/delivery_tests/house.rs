//! A deliverer over a store in memory, and receivers of one manner each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cold::callback::battery::guard;
use crate::cold::callback::deliver::{Deliverer, DeliverySettings, Watch};
use crate::cold::callback::endpoints::EndpointSettings;
use crate::cold::callback::guard::Address;
use crate::cold::callback::send::{Post, Reply, SendError};
use crate::cold::callback::sign::Signer;
use crate::cold::job::{
    Callback, CallbackStatus, Job, JobId, Owner, Reason, Status, StoredRequest, UnixMillis,
    virtual_clock,
};
use crate::cold::priority::Priority;
use crate::cold::store::memory::{Kept, MemoryStore};
use crate::cold::store::{By, Outcome, SharedStore};

pub(super) const NOW: UnixMillis = UnixMillis(1_795_514_400_000);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) type Told = Result<Reply, SendError>;

/// What a host answers, and after how long.
type Manner = Box<dyn Fn(&str) -> (Duration, Told) + Send + Sync>;

/// Receivers of one manner each.
pub(super) struct Script {
    manner: Manner,
    calls: Mutex<Vec<(Instant, String, String)>>,
    running: Mutex<HashMap<String, [usize; 2]>>,
}

impl Script {
    pub(super) fn new(
        manner: impl Fn(&str) -> (Duration, Told) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            manner: Box::new(manner),
            calls: Mutex::default(),
            running: Mutex::default(),
        })
    }

    /// When a host was called, and under which names.
    pub(super) fn calls(&self, host: &str) -> Vec<(Instant, String)> {
        let calls = self.calls.lock().unwrap();
        let ours = calls.iter().filter(|(_, to, _)| to == host);
        ours.map(|(at, _, id)| (*at, id.clone())).collect()
    }

    pub(super) fn most_at_once(&self, host: &str) -> usize {
        self.running.lock().unwrap()[host][1]
    }
}

impl Post for Script {
    fn post<'a>(
        &'a self,
        address: &'a Address,
        headers: HeaderMap,
        _: Bytes,
    ) -> BoxFuture<'a, Told> {
        Box::pin(async move {
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            let call = (Instant::now(), address.host.clone(), id);
            self.calls.lock().unwrap().push(call);
            let change = |by: isize| {
                let mut running = self.running.lock().unwrap();
                let [now, most] = running.entry(address.host.clone()).or_default();
                *now = now.strict_add_signed(by);
                *most = (*most).max(*now);
            };
            change(1);
            let (after, told) = (self.manner)(&address.host);
            sleep(after).await;
            change(-1);
            told
        })
    }
}

struct Nobody;

impl Watch for Nobody {
    fn delivered(&self, _: &'static str, _: Duration) {}
    fn rested(&self) {}
}

pub(super) fn deliverer(
    store: SharedStore,
    sender: Arc<dyn Post>,
    schedule: &[Duration],
) -> Deliverer {
    Deliverer {
        store,
        signer: Arc::new(Signer::new(&[]).unwrap()),
        guard: guard(&[]),
        sender,
        settings: DeliverySettings {
            schedule: schedule.to_vec(),
            jitter: 0.0,
            inline_limit: 1_000,
            concurrency: 64,
            timeout: TIMEOUT,
            endpoints: EndpointSettings {
                places: 8,
                failures: 5,
                rest: 5 * SECOND,
                rest_max: 600 * SECOND,
            },
        },
        watch: Arc::new(Nobody),
        long: tokio::sync::Mutex::default(),
    }
}

/// A running deliverer.
pub(super) struct House {
    pub(super) store: SharedStore,
    pub(super) wake: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl House {
    pub(super) fn open(sender: Arc<dyn Post>, schedule: &[Duration]) -> Self {
        virtual_clock::begin(NOW);
        let house = Self {
            store: Arc::new(MemoryStore::open(&Kept::default(), 1_000_000)),
            wake: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
        };
        let deliverer = Arc::new(deliverer(house.store.clone(), sender, schedule));
        tokio::spawn(deliverer.run(house.stop.clone(), house.wake.clone()));
        house
    }

    /// Finishes a job that is called back there.
    pub(super) async fn finish(&self, url: &str) -> JobId {
        let job = job(url);
        let id = job.id.clone();
        let request = StoredRequest {
            method: "POST".into(),
            path_and_query: "/".into(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        self.store.insert(job, request).await.unwrap();
        let outcome = Outcome {
            status: Status::Failed,
            answer: None,
            error: None,
        };
        let now = UnixMillis::now();
        self.store
            .finish(&id, By::Order, outcome, now)
            .await
            .unwrap();
        self.wake.notify_one();
        id
    }

    pub(super) async fn callback(&self, id: &JobId) -> Callback {
        self.store.get(id).await.unwrap().unwrap().callback.unwrap()
    }

    pub(super) async fn count(&self, ids: &[JobId], status: CallbackStatus) -> usize {
        let mut count = 0;
        for id in ids {
            count += usize::from(self.callback(id).await.status == status);
        }
        count
    }
}

fn job(url: &str) -> Job {
    Job {
        id: JobId::random(),
        owner: Owner::ANYONE,
        status: Status::Running,
        route: "chat".into(),
        reason: Reason::Requested,
        budget_ms: 0,
        elapsed_ms: 0,
        created_at: UnixMillis::now(),
        expires_at: UnixMillis::now().plus(60 * SECOND),
        finished_at: None,
        attempts: 1,
        fence: 1,
        error: None,
        callback: Some(Callback {
            url: url.into(),
            status: CallbackStatus::Pending,
            deliveries: 0,
            last_error: None,
        }),
        scope: None,
        background: None,
        priority: Priority::default(),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "what a manner gives")]
pub(super) fn status(code: u16) -> Told {
    Ok(Reply {
        status: StatusCode::from_u16(code).unwrap(),
        retry_after: None,
    })
}
