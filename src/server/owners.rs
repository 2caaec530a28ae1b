//! Who owns which tasks of a gateway, and how it ends.
//!
//! Promises: after a drain no task is left, and what this gateway ran is given back to the others
//! before its process ends.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cold::job::UnixMillis;
use crate::cold::store::SharedStore;
use crate::tasks::{Signal, Tasks};

/// Longest that a drain waits for the store to take back what runs; after that the lease ends by
/// itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest that a drain waits for the receiver of traces.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Who owns which tasks, and what stops them; in the order of a drain.
#[derive(Clone, Default)]
pub(crate) struct Owners {
    /// Callers' connections and calls.
    pub calls: Tasks,
    /// Jobs.
    pub jobs: Tasks,
    /// The lease, callbacks, clocks, the admin listener.
    pub background: Tasks,
    /// Connections to providers and their keepers.
    pub connections: Tasks,
    /// The store's connections, if it has any.
    pub store: Tasks,
    /// Accept nothing new, claim no more jobs.
    pub stop: Signal,
    /// Take over no more calls, deliver no more callbacks.
    pub rest: CancellationToken,
    /// Tells of traces.
    pub journal: Tasks,
    /// Nothing more will be told of.
    pub told: CancellationToken,
    /// The workers' threads may end.
    pub leave: CancellationToken,
}

impl Owners {
    /// Lets running calls and jobs end, and cuts what is left of them after the limit or as soon as
    /// there is a hurry. Then what this gateway ran is anybody's.
    pub async fn drain(
        &self,
        limit: Duration,
        store: &SharedStore,
        hurry: impl Future<Output = ()>,
    ) {
        let over = Signal::default();
        let clock = async {
            tokio::select! {
                () = sleep(limit) => {}
                () = hurry => {}
            }
            over.raise();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.drain_until(&over, store) => {}
            () = clock => {}
        }
    }

    async fn drain_until(&self, over: &Signal, store: &SharedStore) {
        self.stop.raise();
        end(&self.calls, over).await;
        // Calls are over: nothing comes through the door any more.
        self.rest.cancel();
        end(&self.jobs, over).await;
        // The lease was renewed until here.
        cut(&self.background).await;
        match timeout(PATIENCE, store.leave(UnixMillis::now())).await {
            Ok(Ok(0)) => {}
            Ok(Ok(left)) => tracing::info!(left, "unfinished jobs are left to whoever comes next"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease was not ended"),
            Err(_) => tracing::warn!("the lease was not ended: the store is silent"),
        }
        // What there is to tell was left there; whoever does not take it is not waited for.
        self.told.cancel();
        let _ = timeout(LAST_SPANS, self.journal.ended()).await;
        cut(&self.journal).await;
        cut(&self.connections).await;
        cut(&self.store).await;
    }

    /// Cuts everything and gives nothing back, as a process does that is killed.
    #[cfg(test)]
    pub async fn kill(&self) {
        let all = self.all();
        for tasks in all {
            tasks.cut();
        }
        for tasks in all {
            tasks.ended().await;
        }
    }

    fn all(&self) -> [&Tasks; 6] {
        [
            &self.calls,
            &self.jobs,
            &self.background,
            &self.journal,
            &self.connections,
            &self.store,
        ]
    }

    /// Tasks alive.
    pub fn alive(&self) -> usize {
        let all = self.all();
        all.into_iter().map(Tasks::alive).sum()
    }
}

async fn end(tasks: &Tasks, over: &Signal) {
    if over.unless(tasks.ended()).await.is_none() {
        cut(tasks).await;
    }
}

async fn cut(tasks: &Tasks) {
    tasks.cut();
    tasks.ended().await;
}
