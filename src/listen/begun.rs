//! A connection that asks nothing.
//!
//! Promises: a connection whose first call does not begin in time is given up, also where not even
//! its protocol can be told yet; once one has begun this costs nothing.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

/// Whether a connection's first call has begun; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Begun(Arc<AtomicBool>);

impl Begun {
    /// A call began.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Drives a connection to its end; `None`: its first call did not begin in time.
    pub async fn within<F: Future>(&self, time: Duration, connection: F) -> Option<F::Output> {
        let (mut connection, mut late) = (pin!(connection), pin!(sleep(time)));
        poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(ended));
            }
            if self.0.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            late.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_given_up_only_where_no_call_began_in_time() {
        let silent = Begun::default();
        assert_eq!(silent.within(TIME, pending::<()>()).await, None);
        assert_eq!(silent.within(TIME, async { 7 }).await, Some(7));
        let asking = Begun::default();
        let connection = async {
            sleep(TIME / 2).await;
            asking.set();
            sleep(TIME * 2).await;
            7
        };
        assert_eq!(asking.within(TIME, connection).await, Some(7));
    }
}
