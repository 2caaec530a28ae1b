//! Who owns the tasks of this process, and how they are told to end.
//!
//! Promises: every task is counted until it has ended, so that a drain can wait for all of them
//! and a test can count them. There is no `tokio::spawn` elsewhere. To be told costs a task one
//! load a wake-up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
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
        self.tracker.spawn(Owned {
            task: self.cut.unless(task),
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
    pub fn unless<F: Future>(&self, future: F) -> Unless<F> {
        Unless {
            future,
            raised: self.0.token.clone().cancelled_owned(),
            signal: self.clone(),
            waits: None,
        }
    }
}

// Both are written out, since an `async` block keeps what it captured beside what it awaits: around
// a connection or a job that is the same thing three times, in each of ten thousand tasks.
pin_project! {
    /// A task of an owner.
    struct Owned<F> {
        #[pin]
        task: Unless<F>,
    }
}

pin_project! {
    /// A future that is given up at a signal.
    #[must_use = "it is driven by awaiting it"]
    pub struct Unless<F> {
        #[pin]
        future: F,
        #[pin]
        raised: WaitForCancellationFutureOwned,
        signal: Signal,
        // A task's waker stays the same for its life: to wait with it once is enough.
        waits: Option<Waker>,
    }
}

impl<F: Future> Future for Owned<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let _ = ready!(self.project().task.poll(context));
        Poll::Ready(())
    }
}

impl<F: Future> Future for Unless<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !this
            .waits
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *this.waits = Some(context.waker().clone());
            let _ = this.raised.poll(context);
        }
        if this.signal.is_raised() {
            return Poll::Ready(None);
        }
        this.future.poll(context).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weight::{at_most, of};
    use std::future::{pending, ready};

    #[test]
    fn a_task_has_its_future_once() {
        let future = ready([0u8; 1_000]);
        at_most(
            size_of_val(&future) + 128,
            of(|| Signal::default().unless(future)),
        );
    }

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
