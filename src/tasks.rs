//! Who owns the tasks of this process.
//!
//! Promises: every task is counted until it has ended, so that a drain can wait for all of them
//! and a test can count them. There is no `tokio::spawn` elsewhere.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An owner of tasks; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: Arc<Cut>,
}

#[derive(Debug, Default)]
struct Cut {
    token: CancellationToken,
    /// Set before the token wakes anybody.
    done: AtomicBool,
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
            let mut task = pin!(task);
            let mut cancelled = pin!(cut.token.cancelled());
            let mut waits = false;
            poll_fn(|context| {
                // The waker of a task stays the same for its life: registered once it is enough,
                // and a wake-up costs one load.
                if !waits {
                    waits = true;
                    let _ = cancelled.as_mut().poll(context);
                }
                if cut.done.load(Ordering::Acquire) {
                    return Poll::Ready(());
                }
                task.as_mut().poll(context).map(drop)
            })
            .await;
        });
    }

    /// Tasks alive.
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }

    /// Drops every task at its next await; those spawned later end at once.
    pub fn cut(&self) {
        self.cut.done.store(true, Ordering::Release);
        self.cut.token.cancel();
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
