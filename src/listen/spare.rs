//! A descriptor in reserve, for when this process may open no more.
//!
//! Promises: who connects then is turned away at once, and does not wait in the accept queue for an
//! answer that may never come.

use std::fs::File;
use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

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
        if let Ok(Ok((stream, _))) = timeout(REST, listener.accept()).await {
            drop(stream);
        }
        *self = Self::take();
    }
}
