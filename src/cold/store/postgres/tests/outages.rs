//! A server that goes away and comes back.

use super::*;

#[tokio::test]
async fn a_server_that_crashed_is_found_again_and_nothing_that_was_told_is_lost() {
    let mut cluster = Cluster::start(true);
    let database = cluster.database();
    let store = Arc::new(open(&cluster.address(&database), 1_000).unwrap());
    let mut feed = store.news().unwrap();
    store.beat(LEASE, NOW).await.unwrap();
    let kept = queued(&store, "chat").await;
    let running = job("chat", Status::Running);
    store.insert(running.clone(), request()).await.unwrap();
    store.ready().await.unwrap();
    hears(&mut feed, News::Missed).await;

    cluster.kill();
    let began = Instant::now();
    assert!(store.ready().await.is_err());
    let lost = job("chat", Status::Queued);
    let refused = store.insert(lost.clone(), request()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(store.get(&kept).await.is_err());
    assert!(store.claim("chat", 9, NOW).await.is_err());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    // What ends a job is held, and written when the server is back.
    let ending = {
        let (store, id) = (store.clone(), running.id.clone());
        tokio::spawn(async move { store.finish(&id, By::Run(1), answered(), NOW).await })
    };
    let serve = tokio::task::spawn_blocking(move || {
        cluster.serve();
        cluster
    });
    let cluster = serve.await.unwrap();
    let ended = timeout(Duration::from_secs(20), ending).await.unwrap();
    let ended = ended.unwrap().unwrap().unwrap();
    assert_eq!(ended.status, Status::Succeeded);
    let back = Instant::now();
    while store.ready().await.is_err() {
        assert!(
            back.elapsed() < Duration::from_secs(20),
            "it is not found again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.get(&kept).await.unwrap().is_some());
    assert_eq!(store.answer(&running.id).await.unwrap(), answered().answer);
    hears_within(&mut feed, News::Missed, Duration::from_secs(20)).await;
    store.beat(LEASE, NOW).await.unwrap();
    assert_eq!(store.get(&lost.id).await.unwrap(), None);
    queued(&store, "chat").await;
    let all = cluster.sql(&database, "select count(*) from shunt.jobs");
    assert_eq!(all.trim(), "3");
}

#[tokio::test]
async fn a_gateway_that_hears_nothing_looks_at_everything_each_second() {
    let address = shared().address(&shared().database());
    let store = open(&address, 100).unwrap();
    let other = open(&shared().address(&shared().database()), 100).unwrap();
    let (sender, mut feed) = tokio::sync::mpsc::channel(9);
    // What it says to itself goes to another database.
    let ear = crate::cold::store::postgres::ear::Ear {
        own: store.gateway,
        ground: store.ground.clone(),
        teller: other.desk.news.clone(),
        feed: sender,
        full: false,
    };
    store.ground.spawn(ear.run());
    for _ in 0..3 {
        hears_within(&mut feed, News::Missed, Duration::from_secs(3)).await;
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up_and_the_next_goes() {
    let database = shared().database();
    let store = open(&shared().address(&database), 100).unwrap();
    let session = store.pulse.session().await.unwrap();
    session.tell("set statement_timeout = 50").await.unwrap();
    let slow = session.ask("select pg_sleep(30)", &[]).await.unwrap_err();
    let why = StoreError::from(slow).to_string();
    assert!(why.contains("statement timeout"), "{why}");
    store.ready().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_was_cut_is_made_anew_without_a_word() {
    let database = shared().database();
    let store = open(&shared().address(&database), 100).unwrap();
    for _ in 0..5 {
        let id = queued(&store, "chat").await;
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where datname = current_database() and pid <> pg_backend_pid()";
        shared().sql(&database, cut);
        assert!(store.get(&id).await.unwrap().is_some());
        queued(&store, "chat").await;
    }
    assert_eq!(
        store.counts().await.unwrap(),
        [("chat".to_owned(), Status::Queued, 10)]
    );
}
