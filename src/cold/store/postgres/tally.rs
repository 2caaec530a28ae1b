//! How many jobs stand where, for scrapes and pages of all gateways.
//!
//! Promises: what takes long to count is counted a hundredth of the time, and at least each half
//! minute; those who ask at the same time share one count, and so do those who ask later because
//! nobody waited for its end: no second one is begun beside it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use tokio::time::Instant;

use crate::cold::job::Status;
use crate::cold::store::{StoreError, StoreFuture};

/// What is counted as quickly is counted each time: it costs nobody anything.
const QUICK: Duration = Duration::from_millis(100);

/// A count stands for so many times as long as it took, and no longer than `LONGEST`.
const SHARE: u32 = 100;
const LONGEST: Duration = Duration::from_secs(30);

/// Route, status, count.
type Counts = Vec<(String, Status, u64)>;

/// What was counted, and how long that took.
type Counted = Result<(Duration, Counts), StoreError>;

#[derive(Default)]
struct State {
    /// The last count, and until when it stands.
    last: Option<(Instant, Counts)>,
    /// The one under way. Who asked for it may have left: the next one who asks goes on with it.
    running: Option<Shared<BoxFuture<'static, Counted>>>,
}

#[derive(Default)]
pub(super) struct Tally(Mutex<State>);

impl Tally {
    /// What stands, or what `count` finds.
    pub async fn counts(
        &self,
        count: impl FnOnce() -> StoreFuture<'static, Counts>,
    ) -> Result<Counts, StoreError> {
        let running = {
            let mut state = self.state();
            if let Some((until, counts)) = &state.last
                && Instant::now() < *until
            {
                return Ok(counts.clone());
            }
            let begin = || timed(count()).boxed().shared();
            state.running.get_or_insert_with(begin).clone()
        };
        let counted = running.clone().await;
        let mut state = self.state();
        if state
            .running
            .as_ref()
            .is_some_and(|one| one.ptr_eq(&running))
        {
            state.running = None;
            state.last = counted.as_ref().ok().and_then(|(took, counts)| {
                let until = Instant::now() + LONGEST.min(*took * SHARE);
                (*took >= QUICK).then(|| (until, counts.clone()))
            });
        }
        counted.map(|(_, counts)| counts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn timed(count: StoreFuture<'static, Counts>) -> Counted {
    let began = Instant::now();
    let counts = count.await?;
    Ok((began.elapsed(), counts))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_to_count_is_not_counted_at_each_scrape() {
        let tally = Tally::default();
        let count = async |took: Duration, jobs: u64| {
            let counts = move || -> StoreFuture<'static, Counts> {
                Box::pin(async move {
                    sleep(took).await;
                    Ok(vec![("chat".to_owned(), Status::Queued, jobs)])
                })
            };
            tally.counts(counts).await.unwrap()[0].2
        };
        assert_eq!(count(QUICK / 2, 1).await, 1);
        assert_eq!(count(QUICK * 2, 2).await, 2);
        assert_eq!(count(QUICK * 2, 3).await, 2);
        sleep(QUICK * 2 * SHARE).await;
        assert_eq!(count(LONGEST, 4).await, 4);
        sleep(LONGEST / 2).await;
        assert_eq!(count(QUICK, 5).await, 4);
        sleep(LONGEST).await;
        assert_eq!(count(QUICK / 2, 6).await, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_that_nobody_waits_out_is_not_begun_again_and_stands_once_it_is_there() {
        let (tally, begun) = (Tally::default(), AtomicU64::new(0));
        let ask = async || {
            let count = || -> StoreFuture<'static, Counts> {
                begun.fetch_add(1, Ordering::Relaxed);
                Box::pin(async {
                    sleep(Duration::from_secs(6)).await;
                    Ok(vec![("chat".to_owned(), Status::Queued, 9)])
                })
            };
            let counts = timeout(Duration::from_secs(2), tally.counts(count))
                .await
                .ok()?;
            Some(counts.unwrap()[0].2)
        };
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(ask().await);
            sleep(Duration::from_secs(3)).await;
        }
        assert_eq!(told, [None, Some(9), Some(9), Some(9), Some(9)]);
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }
}
