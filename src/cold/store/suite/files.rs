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
        let whole = |line: &String| line.contains("SCAN jobs") || line.contains("TEMP B-TREE");
        assert!(!plan.iter().any(whole), "{sql}: {plan:?}");
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
