//! Who owns the tasks of this process, and how they are told to end.
//!
//! Promises: every task is counted until it has ended, so that a drain can wait for all of them
//! and a test can count them. There is no `tokio::spawn` elsewhere. To be told costs a task one
//! load a wake-up.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An owner of tasks; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: Signal,
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
            let _ = cut.unless(task).await;
        });
    }

    /// Tasks alive.
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }

    /// Drops every task at its next await; those spawned later end at once.
    pub fn cut(&self) {
        self.cut.raise();
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

/// Something that happens once, for many tasks; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<Raised>);

#[derive(Debug, Default)]
struct Raised {
    /// Wakes those who wait.
    token: CancellationToken,
    /// Set before anybody is woken.
    done: AtomicBool,
}

impl Signal {
    /// It happens.
    pub fn raise(&self) {
        self.0.done.store(true, Ordering::Release);
        self.0.token.cancel();
    }

    /// Whether it has happened.
    pub fn is_raised(&self) -> bool {
        self.0.done.load(Ordering::Acquire)
    }

    /// Waits until it has happened.
    pub async fn raised(&self) {
        self.0.token.cancelled().await;
    }

    /// Drives a future until it ends, or gives it up at the signal: `None`.
    pub async fn unless<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut raised = pin!(self.0.token.cancelled());
        // A task's waker stays the same for its life: to wait with it once is enough.
        let mut waits: Option<Waker> = None;
        poll_fn(|context| {
            if !waits
                .as_ref()
                .is_some_and(|waker| waker.will_wake(context.waker()))
            {
                waits = Some(context.waker().clone());
                let _ = raised.as_mut().poll(context);
            }
            if self.0.done.load(Ordering::Acquire) {
                return Poll::Ready(None);
            }
            future.as_mut().poll(context).map(Some)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn a_cut_ends_tasks_that_wait_and_tasks_that_come_later() {
        let tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn(pending::<()>());
        }
        tokio::task::yield_now().await;
        assert_eq!(tasks.alive(), 3);
        tasks.cut();
        tasks.spawn(pending::<()>());
        tasks.ended().await;
        assert_eq!(tasks.alive(), 0);
    }

    #[tokio::test]
    async fn a_signal_gives_up_a_future_only_when_it_is_raised() {
        let signal = Signal::default();
        assert_eq!(signal.unless(async { 7 }).await, Some(7));
        let (given_up, ()) = tokio::join!(signal.unless(pending::<()>()), async {
            tokio::task::yield_now().await;
            signal.raise();
        });
        assert_eq!(given_up, None);
        signal.raised().await;
    }
}
