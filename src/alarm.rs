//! Timers that cost little where they mostly do not go off.
//!
//! Promises: a timer is polled when it is moved, when another task waits for it, or when it went
//! off; in between it costs two loads. Timers of calls are used again: one that is moved on while it
//! waits is a store, while one that is made and dropped goes into the wheel and out of it, and where
//! it is the next to go off it wakes the driver, which is a system call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crossbeam_queue::ArrayQueue;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

/// Timers that are kept for later calls; those beyond are dropped.
const KEPT: usize = 512;

/// A timer.
#[derive(Debug)]
pub struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// The task that it will wake.
    armed: Option<Waker>,
}

impl Alarm {
    /// A timer that goes off then.
    pub fn new(at: Instant) -> Self {
        Self {
            sleep: Box::pin(sleep_until(at)),
            armed: None,
        }
    }

    /// Moves it.
    pub fn reset(&mut self, at: Instant) {
        self.sleep.as_mut().reset(at);
        self.armed = None;
    }

    /// Ready once it has gone off.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let armed = self.armed.as_ref();
        let armed = armed.is_some_and(|waker| waker.will_wake(context.waker()));
        if armed && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        let polled = self.sleep.as_mut().poll(context);
        // Out of budget, tokio has not looked at it: it wakes the task, to be polled again.
        let armed = polled.is_pending() && has_budget_remaining();
        self.armed = armed.then(|| context.waker().clone());
        polled
    }
}

/// The timers of one runtime's calls.
#[derive(Debug)]
pub struct Alarms(ArrayQueue<Alarm>);

impl Default for Alarms {
    fn default() -> Self {
        Self(ArrayQueue::new(KEPT))
    }
}

impl Alarms {
    /// A timer for a call; it comes back when it is dropped.
    pub fn take(self: &Arc<Self>, at: Instant) -> Borrowed {
        let mut alarm = self.0.pop();
        match &mut alarm {
            Some(alarm) => alarm.reset(at),
            None => alarm = Some(Alarm::new(at)),
        }
        Borrowed {
            alarm,
            home: self.clone(),
        }
    }
}

/// A timer that is some call's for a while.
#[derive(Debug)]
pub struct Borrowed {
    /// There until it is dropped.
    alarm: Option<Alarm>,
    home: Arc<Alarms>,
}

impl Borrowed {
    /// Moves it.
    pub fn reset(&mut self, at: Instant) {
        if let Some(alarm) = &mut self.alarm {
            alarm.reset(at);
        }
    }

    /// Ready once it has gone off.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarm.as_mut();
        alarm.map_or(Poll::Pending, |alarm| alarm.poll(context))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(mut alarm) = self.alarm.take() {
            // Else the memory of a task that is over would stay with it.
            alarm.armed = None;
            let _ = self.home.0.push(alarm);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_used_again_goes_off_when_its_call_wants() {
        let alarms = Arc::new(Alarms::default());
        // Before, after and long after the time of the call before it, which it did not wait for.
        for seconds in [10, 20, 1, 5, 0] {
            let began = Instant::now();
            let mut alarm = alarms.take(began + SECOND * seconds);
            poll_fn(|context| alarm.poll(context)).await;
            assert_eq!(began.elapsed(), SECOND * seconds);
            alarm.reset(Instant::now() + SECOND * 30);
            let waits = poll_fn(|context| Poll::Ready(alarm.poll(context).is_pending()));
            assert!(waits.await);
        }
        assert_eq!(alarms.0.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_for_a_task_that_had_no_budget_when_it_asked_first() {
        let (began, mut alarm) = (Instant::now(), Alarm::new(Instant::now() + SECOND));
        // Only tasks have a budget.
        let tasks = crate::tasks::Tasks::new();
        tasks.spawn(async move {
            let mut spent = false;
            poll_fn(|context| {
                // Once: whoever has no budget is polled again with a new one.
                for _ in 0..if spent { 0 } else { 1_000 } {
                    let mut budget = pin!(tokio::task::coop::consume_budget());
                    spent |= budget.as_mut().poll(context).is_pending();
                }
                alarm.poll(context)
            })
            .await;
            assert!(spent);
        });
        tasks.ended().await;
        assert_eq!(began.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_the_task_that_asked_last() {
        let mut alarm = Alarm::new(Instant::now() + SECOND);
        let polled = alarm.poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        let began = Instant::now();
        poll_fn(|context| alarm.poll(context)).await;
        assert_eq!(began.elapsed(), SECOND);
    }
}
