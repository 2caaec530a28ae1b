//! What a store in a file keeps to besides.

use super::*;

#[tokio::test]
async fn a_second_gateway_is_refused_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let second = SqliteStore::open(&folder.path().join("jobs.db"), 1);
    let why = second.err().unwrap().to_string();
    assert!(why.contains("another gateway"), "{why}");
}

#[test]
fn the_queue_is_read_through_its_partial_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    let connection = rusqlite::Connection::open(folder.path().join("jobs.db")).unwrap();
    for (sql, index) in super::sqlite::QUEUE_QUERIES {
        let explain = format!("explain query plan {sql}");
        let mut explain = connection.prepare(&explain).unwrap();
        let values = rusqlite::params_from_iter(vec![1; explain.parameter_count()]);
        let plan = explain.query_map(values, |row| row.get(3)).unwrap();
        let plan: Vec<String> = plan.map(Result::unwrap).collect();
        assert!(
            plan.iter().any(|line| line.contains(index)),
            "{sql}: {plan:?}"
        );
        let scan = |line: &str| line.contains("SCAN jobs") || line.contains("SCAN deliveries");
        let whole =
            |line: &String| (scan(line) && !line.contains(index)) || line.contains("TEMP B-TREE");
        assert!(!plan.iter().any(whole), "{sql}: {plan:?}");
    }
}

#[test]
fn no_query_of_the_queue_is_planned_anew_for_other_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    drop(open(folder.path()));
    let connection = rusqlite::Connection::open(path).unwrap();
    super::sqlite::set_up(&connection).unwrap();
    for (sql, _) in super::sqlite::QUEUE_QUERIES {
        let mut statement = connection.prepare(sql).unwrap();
        for value in 1..9 {
            let values = vec![value; statement.parameter_count()];
            let mut rows = statement.query(rusqlite::params_from_iter(values)).unwrap();
            while rows.next().unwrap().is_some() {}
        }
        let planned = statement.get_status(rusqlite::StatementStatus::RePrepare);
        assert_eq!(planned, 0, "{sql}");
    }
}

#[tokio::test]
async fn a_file_of_an_older_gateway_is_brought_up_and_one_of_a_newer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../sqlite/schema.sql"))
        .unwrap();
    let (store, queued) = (open(folder.path()), job("chat", Status::Queued));
    store.insert(queued.clone(), request()).await.unwrap();
    assert_eq!(store.get(&queued.id).await.unwrap(), Some(queued));
    drop(store);
    old.execute_batch("pragma user_version = 99").unwrap();
    let refused = SqliteStore::open(&path, 100).err().unwrap().to_string();
    assert!(
        refused.contains("a newer gateway wrote this store"),
        "{refused}"
    );
}

/// Two jobs of version 10, the second with all that may belong to one.
const OLD_JOBS: &str = "
    insert into jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, created_at,
        expires_at, finished_at, attempts, due, fence, priority)
    values ('job_00000000000000000000000000000001', zeroblob(32), 'queued', 'chat', 'requested',
        1, 1, 1, 9, null, 0, 1, 0, 4),
        ('job_00000000000000000000000000000002', zeroblob(32), 'failed', 'chat', 'requested',
        1, 1, 1, 9, 8, 1, 1, 1, 4);
    insert into requests (job_id, method, path, headers, body, plain)
    select id, 'POST', '/' || seq, x'', x'31', 1 from jobs order by seq desc;
    insert into answers (job_id, status, headers, body, timing)
    select id, 500, x'', x'32', '1 2' from jobs where seq = 2;
    insert into deliveries (webhook_id, job_id, url, state, due)
    select 'msg_' || seq, id, 'https://hooks.example.com/' || seq, 'pending', 8 from jobs;
    insert into history (job_id, number, ended, result, gateway)
    select id, 1, 8, 'failed', 'host/1' from jobs where seq = 2;";

#[tokio::test]
async fn what_an_older_gateway_kept_of_a_job_is_still_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(folder.path().join("jobs.db")).unwrap();
    for step in &super::sqlite::STEPS[..10] {
        old.execute_batch(step).unwrap();
    }
    old.execute_batch(OLD_JOBS).unwrap();
    drop(old);
    let store = open(folder.path());
    let [first, second] = [1, 2].map(|number| format!("job_{number:032}"));
    let second = JobId::parse(&second).unwrap();
    let claimed = store.claim("chat", 9, NOW).await.unwrap();
    let found: Vec<_> = claimed
        .iter()
        .map(|one| (one.job.id.as_str(), &*one.request.path_and_query))
        .collect();
    assert_eq!(found, [(&*first, "/1")]);
    let answer = store.answer(&second).await.unwrap().unwrap();
    assert_eq!(
        (answer.status, &answer.body[..], &*answer.timing),
        (500, &b"2"[..], "1 2")
    );
    assert_eq!(store.history(&second).await.unwrap()[0].result, "failed");
    let due = store.claim_deliveries(9, NOW, NOW).await.unwrap();
    let told: Vec<_> = due
        .iter()
        .map(|one| (&*one.webhook_id, one.job.id.as_str()))
        .collect();
    assert!(told.contains(&("msg_2", second.as_str())), "{told:?}");
    // Its end is told; and it can be run once more.
    store
        .delivered("msg_2", DeliveryOutcome::Delivered)
        .await
        .unwrap();
    let again = store
        .retry(&second, NOW, NOW.plus(Duration::from_mins(1)))
        .await
        .unwrap();
    assert_eq!(again.unwrap().status, Status::Queued);
}
