//! What only the store knows: asked for a scrape and for the live view alike.

use crate::cold::job::{Status, UnixMillis};
use crate::cold::store::{SharedStore, asked};

/// What it told; `None`: it did not say.
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
    let jobs = async {
        let counts = asked(store.counts()).await.ok();
        let queued = |(_, status, _): &(String, Status, u64)| *status == Status::Queued;
        let oldest = match &counts {
            Some(counts) if counts.iter().any(queued) => asked(store.oldest(at)).await.ok(),
            Some(_) => Some(Vec::new()),
            None => None,
        };
        (counts, oldest)
    };
    let (ready, dead, (counts, oldest)) =
        tokio::join!(asked(store.ready()), asked(store.count_dead()), jobs);
    Told {
        at,
        ready: ready.is_ok(),
        counts,
        oldest,
        dead: dead.ok(),
    }
}
