//! Room for answers that wait for the store to be back. Bounds bytes, so that no outage fills the memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of answers that wait.
const BYTES: usize = 64 << 20;

/// What one takes beside its body.
const EACH: usize = 1 << 10;

pub(super) struct Unkept(Arc<Semaphore>);

impl Default for Unkept {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BYTES)))
    }
}

impl Unkept {
    /// Room for an answer with a body of so many bytes until it is dropped, if there is any.
    pub fn room_for(&self, body: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(body + EACH).ok()?;
        self.0.clone().try_acquire_many_owned(bytes).ok()
    }
}
