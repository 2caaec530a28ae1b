//! Who owns the tasks of this process.
//!
//! Promises: every task is counted until it has ended, so that a drain can wait for all of them
//! and a test can count them. There is no `tokio::spawn` elsewhere.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An owner of tasks; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl Tasks {
    /// An owner without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task on this runtime until it ends or is cut.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future + Send + 'static,
    {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                _ = task => {}
            }
        });
    }

    /// Tasks alive.
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }

    /// Drops every task at its next await; those spawned later end at once.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits until no task is left.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}
