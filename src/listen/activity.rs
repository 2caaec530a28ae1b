//! What a connection's calls are about: none yet, none for long, answers that nobody reads, or one
//! call after the other given up.
//!
//! Promises: a connection whose first call does not begin in time is given up, also where not even
//! its protocol can be told yet; one without a call for `idle` is closed, over HTTP/2 after a
//! GOAWAY; one that takes nothing of its answers for `idle` is cut, and so is one that gives up too
//! many calls (rapid reset, CVE-2023-44487). A call costs a few additions for it, and reads no clock.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::upstream::incoming::is_over;

/// The time over which calls that were given up are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// A connection's calls; clones share them.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    born: Instant,
    begun: AtomicBool,
    running: AtomicU32,
    /// When the last call ended, and when a window of calls given up began: milliseconds from birth.
    ended: AtomicU64,
    window: AtomicU64,
    given_up: AtomicU32,
    most: u32,
    flood: AtomicBool,
    /// Answers of which the caller has to take something before more of them is asked for, and how
    /// often that changed.
    owed: AtomicU32,
    moves: AtomicU32,
}

/// Why a connection is not served to its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its first call did not begin in time.
    Silent,
    /// It had no call for long.
    Idle,
    /// It gave up too many calls.
    Flood,
    /// It took nothing of its answers for long.
    Unread,
}

impl Activity {
    /// Of a new connection, which may give up so many calls.
    pub fn new(most: u32) -> Self {
        Self(Arc::new(Shared {
            born: Instant::now(),
            begun: AtomicBool::default(),
            running: AtomicU32::default(),
            ended: AtomicU64::default(),
            window: AtomicU64::default(),
            given_up: AtomicU32::default(),
            most,
            flood: AtomicBool::default(),
            owed: AtomicU32::default(),
            moves: AtomicU32::default(),
        }))
    }

    /// A call begins.
    pub fn call(&self) -> Running {
        self.0.begun.store(true, Ordering::Relaxed);
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Running {
            of: self.0.clone(),
            finished: false,
            owed: false,
        }
    }

    /// Its rest begins anew.
    pub fn rests(&self) {
        self.0.ended.store(self.0.now(), Ordering::Relaxed);
    }

    /// Drives a connection to its end, or to why it is over before: its first call not within
    /// `first`, none for `idle`, nothing taken of its answers for `idle`, too many given up.
    pub async fn watch<F: Future>(
        &self,
        first: Duration,
        idle: Duration,
        mut connection: Pin<&mut F>,
    ) -> Result<F::Output, Over> {
        let shared = &self.0;
        let mut timer = Alarm::new(shared.born + first);
        let mut moves = None;
        poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Ok(ended));
            }
            if shared.flood.load(Ordering::Relaxed) {
                return Poll::Ready(Err(Over::Flood));
            }
            while timer.poll(context).is_ready() {
                if !shared.begun.load(Ordering::Relaxed) {
                    return Poll::Ready(Err(Over::Silent));
                }
                let now = Instant::now();
                let mut free = shared.born + millis(shared.ended.load(Ordering::Relaxed));
                if shared.running.load(Ordering::Relaxed) > 0 {
                    free = now;
                }
                if now >= free + idle {
                    return Poll::Ready(Err(Over::Idle));
                }
                // As it was a whole `idle` ago.
                let last = moves.replace(shared.moves.load(Ordering::Relaxed));
                if last == moves && shared.owed.load(Ordering::Relaxed) > 0 {
                    return Poll::Ready(Err(Over::Unread));
                }
                timer.reset(free + idle);
            }
            Poll::Pending
        })
        .await
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn ends(&self, finished: bool) {
        let now = self.now();
        self.ended.store(now, Ordering::Relaxed);
        self.running.fetch_sub(1, Ordering::Relaxed);
        if finished {
            return;
        }
        let began = self.window.load(Ordering::Relaxed);
        if millis(now.saturating_sub(began)) > WINDOW {
            self.window.store(now, Ordering::Relaxed);
            self.given_up.store(0, Ordering::Relaxed);
        }
        if self.given_up.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.flood.store(true, Ordering::Relaxed);
        }
    }
}

/// A call on its connection; dropped before it is finished it was given up.
#[derive(Debug)]
pub struct Running {
    of: Arc<Shared>,
    finished: bool,
    owed: bool,
}

impl Running {
    /// Whether it is the caller's turn to take something of the answer.
    fn owes(&mut self, owed: bool) {
        if self.owed == owed {
            return;
        }
        self.owed = owed;
        self.of.moves.fetch_add(1, Ordering::Relaxed);
        if owed {
            self.of.owed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.of.owed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.owes(false);
        self.of.ends(self.finished);
    }
}

/// An answer's body, with its call.
pub struct Counted<B: Body> {
    body: B,
    running: Running,
}

impl<B: Body> Counted<B> {
    /// The body of a call's answer.
    pub fn new(body: B, mut running: Running) -> Self {
        running.finished = is_over(&body);
        running.owes(true);
        Self { body, running }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.running.owes(false);
        let next = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(frame) = &next {
            // A provider that breaks off is not the caller giving up.
            let over = !matches!(frame, Some(Ok(_))) || is_over(&self.body);
            self.running.finished |= over;
            // Also of its end: until then the caller has not taken what was before it.
            self.running.owes(true);
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;

    use tokio::time::sleep;

    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    async fn watch<F: Future>(activity: &Activity, connection: F) -> Result<F::Output, Over> {
        activity.watch(FIRST, IDLE, pin!(connection)).await
    }

    fn finished(mut running: Running) {
        running.finished = true;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_call_is_over_early_at_first_and_late_after_one() {
        let began = Instant::now();
        let silent = Activity::new(1);
        assert_eq!(watch(&silent, pending::<()>()).await, Err(Over::Silent));
        assert_eq!(began.elapsed(), FIRST);
        assert_eq!(watch(&silent, async { 7 }).await, Ok(7));

        let (began, asking) = (Instant::now(), Activity::new(1));
        let connection = async {
            sleep(FIRST / 2).await;
            let call = asking.call();
            sleep(IDLE * 5).await;
            finished(call);
            pending::<()>().await;
        };
        assert_eq!(watch(&asking, connection).await, Err(Over::Idle));
        let (waited, due) = (began.elapsed(), FIRST / 2 + IDLE * 6);
        assert!((due..due + millis(5)).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_a_call_on_its_way_to_a_connection_that_had_none_for_long() {
        let activity = Activity::new(1);
        finished(activity.call());
        sleep(IDLE / 2).await;
        let began = Instant::now();
        activity.rests();
        let drained = activity.watch(FIRST, FIRST, pin!(pending::<()>())).await;
        assert_eq!(drained, Err(Over::Idle));
        assert!((FIRST..FIRST + millis(5)).contains(&began.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_nothing_of_its_answers_is_over_and_one_that_waits_for_them_is_not()
     {
        let began = Instant::now();
        let stuck = Activity::new(1);
        let mut call = stuck.call();
        call.owes(true);
        assert_eq!(watch(&stuck, pending::<()>()).await, Err(Over::Unread));
        assert!((IDLE..IDLE * 2 + FIRST).contains(&began.elapsed()));

        let slow = Activity::new(1);
        let connection = async {
            let mut call = slow.call();
            for _ in 0..20 {
                // The provider's turn, and the caller's.
                sleep(IDLE * 5).await;
                call.owes(true);
                sleep(IDLE / 2).await;
                call.owes(false);
            }
            finished(call);
        };
        assert_eq!(watch(&slow, connection).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_given_up_faster_than_they_may_be_are_a_flood() {
        let calm = Activity::new(3);
        let connection = async {
            for _ in 0..20 {
                finished(calm.call());
                drop(calm.call());
                sleep(WINDOW / 2).await;
            }
        };
        assert_eq!(watch(&calm, connection).await, Ok(()));
        let flood = Activity::new(3);
        let connection = async {
            loop {
                drop(flood.call());
                tokio::task::yield_now().await;
            }
        };
        let told: Result<(), Over> = watch(&flood, connection).await;
        assert_eq!(told, Err(Over::Flood));
    }
}
