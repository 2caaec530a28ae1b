//! Room for bodies that are held while the store, or who reads them, is slow or away. Bounds bytes, so
//! that neither fills the memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one takes beside its body.
const EACH: usize = 1 << 10;

pub(super) struct Room {
    free: Arc<Semaphore>,
    /// All of it, bytes.
    most: usize,
}

impl Room {
    /// Room for so many bytes.
    pub fn of(most: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// Room for a body of so many bytes until it is dropped, if there is any. What is larger than all
    /// of it needs all of it.
    pub fn room_for(&self, body: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = self.bytes(body);
        self.free.clone().try_acquire_many_owned(bytes).ok()
    }

    /// The same, once there is room.
    pub async fn wait_for(&self, body: u64) -> OwnedSemaphorePermit {
        let bytes = self.bytes(usize::try_from(body).unwrap_or(self.most));
        let room = self.free.clone().acquire_many_owned(bytes).await;
        room.expect("nobody closes it")
    }

    fn bytes(&self, body: usize) -> u32 {
        let bytes = body.saturating_add(EACH).min(self.most);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_held_up_to_the_room_and_one_that_is_larger_only_alone() {
        let room = Room::of(100 << 10);
        let held: Vec<_> = std::iter::from_fn(|| room.room_for(9 << 10)).collect();
        assert_eq!(held.len(), 10);
        assert!(room.room_for(1 << 20).is_none());
        drop(held);
        let alone = room.room_for(1 << 20);
        assert!(alone.is_some() && room.room_for(0).is_none());
    }
}
