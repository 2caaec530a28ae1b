//! Answers that are read for those who ask, as long as they are held.
//!
//! Promises: long ones share a bounded room, from before they are read until the last of their bytes
//! was sent: who reads slowly fills no memory. Who finds no room waits for it, in the order of coming.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Runner;
use crate::cold::job::{JobId, StoredAnswer};
use crate::cold::store::StoreError;

/// What is shorter needs no room.
const SHORT: u64 = 1 << 20;

/// Room for bytes that are held; dropped with them.
pub type Held = Option<OwnedSemaphorePermit>;

impl Runner {
    /// A job's answer, and its room if it is long.
    pub async fn read_answer(
        &self,
        id: &JobId,
    ) -> Result<Option<(StoredAnswer, Held)>, StoreError> {
        let store = self.store();
        let Some(size) = store.answer_size(id).await? else {
            return Ok(None);
        };
        let held = if size > SHORT {
            Some(self.reading.wait_for(size).await)
        } else {
            None
        };
        Ok(store.answer(id).await?.map(|answer| (answer, held)))
    }
}

/// Bytes that keep their room until nobody has them any more.
pub fn holding(bytes: Bytes, held: Held) -> Bytes {
    struct Holding {
        bytes: Bytes,
        _room: OwnedSemaphorePermit,
    }
    impl AsRef<[u8]> for Holding {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    match held {
        Some(room) => Bytes::from_owner(Holding { bytes, _room: room }),
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;

    #[tokio::test]
    async fn room_is_kept_until_the_last_byte_was_passed_on() {
        let room = Room::of(10 << 20);
        let first = room.wait_for(9 << 20).await;
        let mut body = holding(Bytes::from_static(b"a long answer"), Some(first));
        let rest = body.split_off(6);
        drop(body);
        assert!(room.room_for(2 << 20).is_none());
        assert_eq!(rest, " answer");
        drop(rest);
        assert!(room.room_for(2 << 20).is_some());
    }
}
