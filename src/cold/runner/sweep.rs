//! Deletes what is past its retention.
//!
//! Promises: in short steps, with as long a rest after each, so that others write between them
//! whatever there is to delete; holds up neither claims nor ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{Runner, STEP};

/// How often it is looked for.
const EACH: Duration = Duration::from_mins(1);

impl Runner {
    /// Sweeps until it is cancelled.
    pub async fn sweep_old(self: Arc<Self>, cancel: CancellationToken) {
        let mut each = interval(EACH);
        let work = async {
            loop {
                each.tick().await;
                self.sweep().await;
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = work => {}
        }
    }

    async fn sweep(&self) {
        let past = self.past();
        loop {
            let began = Instant::now();
            let swept = self.parts.store.sweep(STEP, past).await;
            if swept.unwrap_or(0) == 0 {
                return;
            }
            sleep(began.elapsed()).await;
        }
    }
}
