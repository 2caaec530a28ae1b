//! The schema: its indexes, its versions, and what stands in no file.

use super::*;
use crate::cold::store::postgres::link::{Ground, Link};
use crate::cold::store::postgres::migrate::{STEPS, Step, migrate};
use crate::cold::store::sealed::Sealed;
use crate::cold::store::suite::seals::keys;
use crate::config::Seal;

fn ground(address: &str, password: Option<&str>) -> Arc<Ground> {
    let address = PostgresAddress::parse(address).unwrap();
    let password = password.map(|one| crate::config::Secret::new(one.into()));
    let limits = (Duration::from_secs(3), Duration::from_secs(5));
    let _inside = RUNTIME.enter();
    Arc::new(Ground::new(&address, password.as_ref(), limits, Tasks::new()).unwrap())
}

#[tokio::test]
async fn the_queue_is_read_through_its_partial_indexes() {
    let database = shared().database();
    let _store = open(&shared().address(&database), 100).unwrap();
    let fill = |number: u32| {
        format!(
            "insert into shunt.jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, \
             created_at, expires_at, finished_at, attempts, fence, due, scope, gateway, ready) \
             select 'j' || n, decode('00', 'hex'), case when n % 10 = 0 then 'queued' \
             when n % 10 = 1 then 'running' else 'succeeded' end, 'r' || n % 3, 'x', 0, 0, n, n, \
             case when n % 10 > 1 then n end, 0, 0, n, 's' || n % 7, n % 5, n % 20 = 0 \
             from generate_series(1, {number}) n; \
             insert into shunt.deliveries (webhook_id, job_id, url, state, due, died_at, gateway) \
             select 'm' || n, 'j' || n, 'u', case when n % 10 = 0 then 'pending' \
             when n % 10 = 1 then 'dead' else 'delivered' end, n, \
             case when n % 10 = 1 then n end, case when n % 100 = 0 then 1 end \
             from generate_series(1, {number}) n; analyze"
        )
    };
    shared().sql(&database, &fill(20_000));
    let [(promote, later), (callers, ready), (next, _)] = order::STATEMENTS;
    let running = "select id from shunt.jobs j where j.status = 'running' and j.gateway = 1";
    let queries = [
        (promote, ["'r1'", "9000", "32"].as_slice(), later),
        (callers, &["'r1'", "'\\x'::bytea", "9"], ready),
        (
            next,
            &[
                "'r1'",
                "array['\\x00'::bytea]",
                "array[9::bigint]",
                "1",
                "1",
            ],
            "jobs_ready",
        ),
        (order::DUE, &["9000"], "jobs_later"),
        (order::DUE, &["9000"], "jobs_ready"),
        (claims::DUE, &["9000", "32"], "deliveries_due"),
        (reads::OVERDUE, &["9000", "500"], "jobs_expiry"),
        (reads::SCOPE, &["'\\x00'", "'s1'", "9"], "jobs_scope"),
        (reads::DEAD, &["100"], "deliveries_dead"),
        (running, &[], "jobs_running"),
    ];
    for (sql, values, index) in queries {
        let mut sql = sql.to_owned();
        for (at, value) in values.iter().enumerate() {
            sql = sql.replace(&format!("${}", at + 1), value);
        }
        let plan = shared().sql(&database, &format!("explain {sql}"));
        assert!(plan.contains(index), "{sql}: {plan}");
        assert!(!plan.contains("Seq Scan on jobs"), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn eight_gateways_that_start_at_once_migrate_once() {
    let address = shared().address(&shared().database());
    let all = (0..8).map(|_| RUNTIME.spawn(opened(address.clone(), 100)));
    let stores = futures_util::future::join_all(all).await;
    let stores: Vec<_> = stores
        .into_iter()
        .map(|one| one.unwrap().unwrap())
        .collect();
    let id = queued(&stores[0], "chat").await;
    assert!(stores[7].get(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn an_older_gateway_works_on_a_schema_that_only_grew_and_is_refused_another() {
    let database = shared().database();
    let address = shared().address(&database);
    let before = open(&address, 100).unwrap();
    let link = Link::short(&ground(&address, None));
    let session = link.session().await.unwrap();
    let adds = Step {
        sql: "alter table shunt.jobs add column colour text",
        compatible_from: 1,
    };
    let takes = Step {
        sql: "alter table shunt.jobs rename column colour to hue",
        compatible_from: 3,
    };
    let grown: Vec<_> = STEPS.into_iter().chain([adds]).collect();
    migrate(&session, &grown).await.unwrap();
    // One that runs and one that starts.
    let id = queued(&before, "chat").await;
    let after = open(&address, 100).unwrap();
    assert_eq!(after.claim("chat", 9, NOW).await.unwrap()[0].job.id, id);
    let taken: Vec<_> = grown.into_iter().chain([takes]).collect();
    migrate(&session, &taken).await.unwrap();
    let why = open(&address, 100).err().unwrap().to_string();
    assert!(
        why.contains("version 3") && why.contains("upgrade"),
        "{why}"
    );
    let versions = shared().sql(&database, "select count(*) from shunt.schema_versions");
    assert_eq!(versions.trim(), "3");
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing_behind() {
    let address = shared().address(&shared().database());
    let link = Link::short(&ground(&address, None));
    let session = link.session().await.unwrap();
    let broken = Step {
        sql: "create table shunt.half (one bigint); select nonsense",
        compatible_from: 1,
    };
    let steps: Vec<_> = STEPS.into_iter().chain([broken]).collect();
    assert!(migrate(&session, &steps).await.is_err());
    let store = open(&address, 100).unwrap();
    queued(&store, "chat").await;
}

#[tokio::test]
async fn no_error_tells_the_password() {
    let address = shared().address("nowhere");
    let link = Link::short(&ground(&address, Some("hunter2")));
    let why = StoreError::from(link.session().await.err().unwrap()).to_string();
    assert!(why.contains("nowhere") && !why.contains("hunter2"), "{why}");
    let parsed = PostgresAddress::parse(&address).unwrap();
    let mut config = parsed.config;
    config.password("hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[tokio::test]
async fn credentials_stand_in_no_file_of_the_server() {
    let cluster = Cluster::start(false);
    let database = cluster.database();
    let open = |seal| {
        Sealed::new(
            open(&cluster.address(&database), 100).unwrap(),
            keys("k1"),
            seal,
        )
    };
    let running = job("chat", Status::Running);
    let asked = || StoredRequest {
        body: "a prompt that is nobody's business".into(),
        ..request()
    };
    let all = open(Seal::All);
    all.insert(running.clone(), asked()).await.unwrap();
    cluster.sql(&database, "checkpoint");
    assert!(cluster.holds(running.id.as_str().as_bytes()));
    assert!(!cluster.holds(b"nobody's business"));
    let store = open(Seal::Credentials);
    store
        .insert(job("chat", Status::Running), asked())
        .await
        .unwrap();
    cluster.sql(&database, "checkpoint");
    assert!(cluster.holds(b"nobody's business"));
    assert!(!cluster.holds(b"very-secret-key"));
}
