//! A callback reads what it tells and no more: here a long answer cannot be read at all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;

use super::*;
use crate::cold::background::Background;
use crate::cold::callback::deliver::{DeliverySettings, Watch};
use crate::cold::callback::endpoints::EndpointSettings;
use crate::cold::callback::guard::{Address, AddressGuard};
use crate::cold::callback::send::{Post, Reply, SendError};
use crate::cold::callback::sign::Signer;
use crate::cold::job::{JobId, Owner, Reason, StoredAnswer, StoredRequest, UnixMillis};
use crate::cold::store::sqlite::SqliteStore;
use crate::cold::store::{By, Outcome, SharedStore};

struct Nobody;

impl Post for Nobody {
    fn post<'a>(
        &'a self,
        _: &'a Address,
        _: HeaderMap,
        _: Bytes,
    ) -> BoxFuture<'a, Result<Reply, SendError>> {
        unreachable!("nothing is sent")
    }
}

impl Watch for Nobody {
    fn delivered(&self, _: &'static str, _: Duration) {}
    fn rested(&self) {}
}

fn deliverer(store: SharedStore) -> Deliverer {
    Deliverer {
        store,
        signer: Arc::new(Signer::new(&[]).unwrap()),
        guard: Arc::new(AddressGuard::new(&[]).unwrap()),
        sender: Arc::new(Nobody),
        settings: DeliverySettings {
            schedule: Vec::new(),
            jitter: 0.0,
            inline_limit: 1_000,
            concurrency: 1,
            timeout: Duration::from_secs(1),
            endpoints: EndpointSettings {
                places: 1,
                failures: 0,
                rest: Duration::ZERO,
                rest_max: Duration::ZERO,
            },
        },
        watch: Arc::new(Nobody),
        long: tokio::sync::Mutex::default(),
    }
}

async fn finished(store: &SharedStore, background: bool, status: Status, body: Bytes) -> Job {
    let now = UnixMillis::now();
    let job = Job {
        id: JobId::random(),
        owner: Owner::ANYONE,
        status: Status::Running,
        route: "chat".into(),
        reason: Reason::Requested,
        budget_ms: 0,
        elapsed_ms: 0,
        created_at: now,
        expires_at: now,
        finished_at: None,
        attempts: 1,
        fence: 0,
        error: None,
        priority: crate::cold::priority::Priority::default(),
        callback: None,
        scope: None,
        background: background.then_some(Background {
            model: None,
            metadata: None,
            stream: false,
        }),
    };
    let request = StoredRequest {
        method: "POST".into(),
        path_and_query: "/".into(),
        headers: Vec::new(),
        body: Bytes::new(),
    };
    let id = job.id.clone();
    store.insert(job, request).await.unwrap();
    let answer = StoredAnswer {
        status: 200,
        headers: Vec::new(),
        body,
    };
    let outcome = Outcome {
        status,
        answer: Some(answer),
        error: None,
    };
    let job = store.finish(&id, By::Order, outcome, now).await;
    job.unwrap().unwrap()
}

#[tokio::test]
async fn an_answer_that_is_not_told_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let store: SharedStore = Arc::new(SqliteStore::open(&path, 9).unwrap());
    let text = |length: usize| {
        Bytes::from(format!(
            r#"{{"status":"incomplete","x":"{}"}}"#,
            "y".repeat(length)
        ))
    };
    let (short, middle, long) = (text(10), text(1_010), text(500_000));
    let plain = [
        finished(&store, false, Status::Succeeded, short).await,
        finished(&store, false, Status::Succeeded, middle).await,
        finished(&store, false, Status::Succeeded, long.clone()).await,
    ];
    let shaped = finished(&store, true, Status::Succeeded, long.clone()).await;
    let failed = finished(&store, true, Status::Failed, long).await;
    let deliverer = deliverer(store);
    let told = async |job: &Job| {
        deliverer
            .body(job)
            .await
            .map(|body| String::from_utf8(body).unwrap())
    };
    let event = told(&shaped).await.unwrap();
    assert!(event.contains(r#""type":"response.incomplete""#), "{event}");

    let bodies = rusqlite::Connection::open(folder.path().join("jobs.db-bodies")).unwrap();
    bodies.execute("delete from chunks", []).unwrap();
    let short = told(&plain[0]).await.unwrap();
    assert!(
        short.contains(r#""body":{"status":"incomplete""#),
        "{short}"
    );
    for elsewhere in &plain[1..] {
        let told = told(elsewhere).await.unwrap();
        assert!(
            told.contains("response_url") && !told.contains("yyy"),
            "{told}"
        );
    }
    let event = told(&failed).await.unwrap();
    assert!(event.contains(r#""type":"response.failed""#), "{event}");
    assert!(told(&shaped).await.is_err(), "this one was to be read");
}
