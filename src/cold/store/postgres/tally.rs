//! How many jobs stand where, for scrapes and pages of all gateways.
//!
//! Promises: what takes long to count is counted a hundredth of the time, and at least each half
//! minute; those who ask at the same time share one count.

use std::time::Duration;

use tokio::sync::Mutex;
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

/// The last count, and until when it stands.
#[derive(Default)]
pub(super) struct Tally(Mutex<Option<(Instant, Counts)>>);

impl Tally {
    /// What stands, or what `count` finds.
    pub async fn counts<'a>(
        &self,
        count: impl FnOnce() -> StoreFuture<'a, Counts>,
    ) -> Result<Counts, StoreError> {
        let mut last = self.0.lock().await;
        let began = Instant::now();
        if let Some((until, counts)) = &*last
            && began < *until
        {
            return Ok(counts.clone());
        }
        let counts = count().await?;
        let took = began.elapsed();
        *last = (took >= QUICK).then(|| {
            let until = Instant::now() + LONGEST.min(took * SHARE);
            (until, counts.clone())
        });
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

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
}
