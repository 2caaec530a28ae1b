//! What only the store knows: asked for a scrape and for the live view alike.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::cold::job::{Status, UnixMillis};
use crate::cold::store::{SharedStore, StoreError};

/// How long it is waited for, by all questions together. A scraper that asks every five seconds gives a
/// scrape no longer than that, and one that fails tells nothing of the gateway, not even whose fault it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// What it told; `None`: it did not say in time.
pub struct Told {
    /// When it was asked.
    pub at: UnixMillis,
    /// It takes writes.
    pub ready: bool,
    /// Jobs: route, status, count.
    pub counts: Option<Vec<(String, Status, u64)>>,
    /// Since when the job of each route that waited longest could run.
    pub oldest: Option<Vec<(String, UnixMillis)>>,
    /// Callbacks that were given up.
    pub dead: Option<u64>,
}

/// Asks it all at once: a silent one is waited for once, so that whoever asks still tells the rest in time.
pub async fn ask(store: &SharedStore) -> Told {
    let at = UnixMillis::now();
    let until = Instant::now() + PATIENCE;
    let jobs = async {
        let counts = told(until, store.counts()).await;
        let queued = |(_, status, _): &(String, Status, u64)| *status == Status::Queued;
        let oldest = match &counts {
            Some(counts) if counts.iter().any(queued) => told(until, store.oldest(at)).await,
            Some(_) => Some(Vec::new()),
            None => None,
        };
        (counts, oldest)
    };
    let ready = told(until, store.ready());
    let dead = told(until, store.count_dead());
    let (ready, dead, (counts, oldest)) = tokio::join!(ready, dead, jobs);
    Told {
        at,
        ready: ready.is_some(),
        counts,
        oldest,
        dead,
    }
}

async fn told<T>(until: Instant, answer: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    timeout_at(until, answer).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cold::store::memory::{Kept, MemoryStore};

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_silent_or_slow_is_waited_for_two_seconds_and_counts_as_not_ready() {
        for seconds in [1, 3, 600] {
            let takes = move || Duration::from_secs(seconds);
            let store = MemoryStore::open(&Kept::default(), 9).taking(takes);
            let store: SharedStore = Arc::new(store);
            let asked = Instant::now();
            let told = ask(&store).await;
            let (took, is_in_time) = (asked.elapsed(), seconds < 2);
            assert!(took <= PATIENCE + Duration::from_millis(2), "{took:?}");
            assert_eq!((told.ready, told.dead.is_some()), (is_in_time, is_in_time));
            assert_eq!(told.counts.is_some(), is_in_time);
        }
    }
}
