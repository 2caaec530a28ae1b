//! A descriptor in reserve, for when this process may open no more.
//!
//! Promises: who connects then is turned away at once, and does not wait in the accept queue for an
//! answer that may never come. Where nobody waits the reserve is not held open for others to take: whoever
//! opens next, a store or a provider, would keep it.

use std::fs::File;
use std::io;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// Until the next try, where nobody can be turned away.
const REST: Duration = Duration::from_millis(10);

/// `EMFILE` and `ENFILE`.
const USED_UP: [i32; 2] = [24, 23];

/// The descriptor.
pub struct Spare(Option<File>);

impl Spare {
    /// Takes one.
    pub fn take() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// After an accept that failed: where descriptors are used up, accepts with the spare one and
    /// closes it again.
    pub async fn after(&mut self, error: &io::Error, listener: &TcpListener) {
        let used_up = error
            .raw_os_error()
            .is_some_and(|code| USED_UP.contains(&code));
        if !used_up || self.0.take().is_none() {
            *self = Self::take();
            return sleep(REST).await;
        }
        // An accept fails for want of a descriptor even where nobody connects.
        drop(listener.accept().now_or_never());
        *self = Self::take();
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    use super::*;

    fn used_up() -> io::Error {
        io::Error::from_raw_os_error(USED_UP[0])
    }

    #[tokio::test(start_paused = true)]
    async fn the_reserve_is_not_given_away_where_nobody_connects() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut spare, began) = (Spare::take(), Instant::now());
        spare.after(&used_up(), &listener).await;
        assert!(spare.0.is_some());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn who_connects_is_turned_away_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let caller = TcpStream::connect(address).await.unwrap();
        listener.accept().await.unwrap();
        drop(caller);
        let caller = TcpStream::connect(address).await.unwrap();
        let mut spare = Spare::take();
        spare.after(&used_up(), &listener).await;
        caller.readable().await.unwrap();
        let read = caller.try_read(&mut [0; 1]);
        assert!(
            matches!(read, Ok(0))
                || read.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
        );
    }
}
