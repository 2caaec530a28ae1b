//! An answer as it comes, for those who read it later or beside its first reader.
//!
//! Promises: whoever reads sees every piece from the first, in order, and the end; one writer, any
//! number of readers, and no lock between them (a list that only grows). Counts its bytes against
//! a common bound, and gives them back when it is dropped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a recording costs besides its bytes: its head and its place.
const OVERHEAD: usize = 1 << 10;

/// An answer's head.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it is there.
    Whole,
    /// All that came of it is there, and its provider did not say that it is whole.
    Endless,
    /// It broke off.
    Broken,
    /// It was given up.
    GivenUp,
    /// It is an answer to its first caller's own terms: others ask for themselves.
    NotTheirs,
    /// There is no more room for it.
    TooLong,
}

/// A piece of a body.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// What follows the bytes.
    Trailers(Box<HeaderMap>),
}

/// How much may be kept.
#[derive(Clone, Debug)]
pub struct Room {
    /// Bytes kept by all recordings.
    pub used: Arc<AtomicUsize>,
    /// Bytes that all may keep.
    pub all: usize,
    /// Bytes that one may keep.
    pub one: usize,
}

/// An answer that grows.
pub struct Recording {
    head: OnceLock<Head>,
    pieces: boxcar::Vec<Piece>,
    end: OnceLock<(End, Instant)>,
    bytes: AtomicUsize,
    room: Room,
    /// Told when there is more.
    pub grown: Arc<Notify>,
}

impl Recording {
    /// An empty one; `None`: there is no room.
    pub fn new(room: Room) -> Option<Self> {
        let recording = Self {
            head: OnceLock::new(),
            pieces: boxcar::Vec::new(),
            end: OnceLock::new(),
            bytes: AtomicUsize::new(0),
            room,
            grown: Arc::default(),
        };
        recording.take(OVERHEAD).then_some(recording)
    }

    /// Takes room for so many bytes; they are given back with the recording.
    fn take(&self, bytes: usize) -> bool {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.room.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        own <= self.room.one.saturating_add(OVERHEAD) && all <= self.room.all
    }

    /// The head came.
    pub fn begin(&self, head: Head) {
        // The first stands; there is one writer.
        let _ = self.head.set(head);
        self.grown.notify_waiters();
    }

    /// A frame came. The bytes are copied: a slice would keep the whole buffer it was read into.
    pub fn push(&self, frame: &Frame<Bytes>) {
        if self.end().is_some() {
            return;
        }
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) if !self.take(data.len()) => return self.end_as(End::TooLong),
            (Some(data), _) => Piece::Data(Bytes::copy_from_slice(data)),
            (_, Some(trailers)) => Piece::Trailers(Box::new(trailers.clone())),
            _ => return,
        };
        self.pieces.push(piece);
        self.grown.notify_waiters();
    }

    /// It ended; the first end stands.
    pub fn end_as(&self, end: End) {
        let _ = self.end.set((end, Instant::now()));
        self.grown.notify_waiters();
    }

    /// Its head, once it is there.
    pub fn head(&self) -> Option<&Head> {
        self.head.get()
    }

    /// A piece, once it is there.
    pub fn piece(&self, at: usize) -> Option<&Piece> {
        self.pieces.get(at)
    }

    /// How it ended, and when.
    pub fn end(&self) -> Option<(End, Instant)> {
        self.end.get().copied()
    }

    /// All bytes so far, in one piece.
    pub fn bytes(&self) -> Bytes {
        let data = |(_, piece): (usize, &Piece)| match piece {
            Piece::Data(data) => Some(data.clone()),
            Piece::Trailers(_) => None,
        };
        let pieces: Vec<Bytes> = self.pieces.iter().filter_map(data).collect();
        pieces.concat().into()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.room.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn what_was_recorded_is_read_in_order_and_gives_its_room_back() {
        let used = Arc::new(AtomicUsize::new(0));
        let room = |all| Room {
            used: used.clone(),
            all,
            one: 8,
        };
        let recording = Recording::new(room(4_096)).unwrap();
        assert!(Recording::new(room(1_500)).is_none());
        for text in ["one ", "two"] {
            recording.push(&data(text));
        }
        assert_eq!(recording.bytes(), "one two");
        assert!(matches!(recording.piece(1), Some(Piece::Data(text)) if text == "two"));
        recording.push(&data("too much"));
        assert_eq!(recording.end().unwrap().0, End::TooLong);
        recording.end_as(End::Whole);
        assert_eq!(recording.end().unwrap().0, End::TooLong);
        drop(recording);
        assert_eq!(used.load(Ordering::Relaxed), 0);
    }
}
