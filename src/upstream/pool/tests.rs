//! What a pool keeps and closes.

use super::*;
use crate::config::Protocol;
use crate::upstream::connect::{Connector, Transport};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

const SECOND: Duration = Duration::from_secs(1);

fn answers(tasks: Tasks) -> Connector {
    Arc::new(move |_: &str, _| {
        let tasks = tasks.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(1 << 10);
            let service =
                service_fn(async |_| hyper::Result::Ok(http::Response::new(String::new())));
            tasks.spawn(async move {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(theirs), service).await;
            });
            Ok(ours)
        })
    })
}

async fn lease(pool: &Arc<Pool>) -> Lease {
    pool.checkout(SECOND).await.expect("it answers")
}

#[tokio::test(start_paused = true)]
async fn what_a_burst_opened_is_closed_though_calls_take_turns_on_it() {
    let tasks = Tasks::new();
    let dialer = Dialer::new(
        "10.0.0.2".into(),
        80,
        None,
        Protocol::Http1,
        None,
        tasks.clone(),
    )
    .over(Transport::Memory(answers(tasks.clone())));
    let bounds = Bounds {
        warm: 1,
        idle: 100,
        idle_timeout: 90 * SECOND,
    };
    let pool = Arc::new(Pool::new(Arc::new(dialer), tasks.clone(), bounds));
    let mut burst = Vec::new();
    for _ in 0..40 {
        burst.push(lease(&pool).await);
    }
    let now = Instant::now();
    for lease in burst {
        lease.finish(now);
    }
    let mut open = Vec::new();
    for _ in 0..300 {
        let pair = (lease(&pool).await, lease(&pool).await);
        tokio::time::sleep(SECOND).await;
        pair.0.finish(Instant::now());
        pair.1.finish(Instant::now());
        pool.tend();
        tokio::task::yield_now().await;
        open.push(pool.open());
    }
    assert_eq!(open[30], 40);
    // One burst is within a period, and the next tells that it is not needed.
    assert!(open[299] <= 4, "{}", open[299]);
    assert!(open.iter().all(|open| *open >= 2));
    tasks.cut();
    tasks.ended().await;
}
