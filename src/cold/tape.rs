//! What a running job's stream has brought so far, for those who read it while it runs.
//!
//! Promises: at most `limits.answer` a job, let go when the job ends; the bytes are those of one
//! attempt, and a reader is told when another's take their place. Never on the hot path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::job::JobId;

/// The bytes of one job.
pub struct Tape {
    state: Mutex<Recorded>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Recorded {
    chunks: Vec<Bytes>,
    length: usize,
    /// Whose bytes these are.
    writer: Option<u64>,
    /// Counts whose bytes stood here before.
    take: u64,
    writers: u64,
}

/// What a reader has not read yet.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// Which take it is of; of another than before: all that was read is void.
    pub take: u64,
    /// The bytes, in order.
    pub chunks: Vec<Bytes>,
}

impl Default for Tape {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job's state changed.
    pub fn touch(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// What stands here is no answer, whoever wrote it.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.void();
        drop(state);
        self.touch();
    }

    /// Told of bytes and of changes; counts the changes of the job's state.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A new attempt that may write.
    pub fn writer(self: &Arc<Self>) -> Writer {
        let mut state = self.lock();
        state.writers += 1;
        Writer {
            name: state.writers,
            tape: self.clone(),
        }
    }

    /// What stands after `from` bytes of this take, or all of another.
    pub fn after(&self, take: u64, from: usize) -> News {
        let state = self.lock();
        let mut skip = if take == state.take { from } else { 0 };
        let mut chunks = Vec::new();
        for chunk in &state.chunks {
            if skip >= chunk.len() {
                skip -= chunk.len();
            } else {
                chunks.push(chunk.slice(skip..));
                skip = 0;
            }
        }
        News {
            take: state.take,
            chunks,
        }
    }
}

/// One attempt's hand on a tape. The first with bytes writes; when it is gone without the job's
/// end, its bytes go with it and another takes over with all it has.
pub struct Writer {
    name: u64,
    tape: Arc<Tape>,
}

impl Writer {
    /// The next bytes of this attempt; `before` is all that it brought until then.
    pub fn write(&self, before: &[u8], chunk: &Bytes) {
        let mut state = self.tape.lock();
        if state.writer.is_none() {
            state.writer = Some(self.name);
            if !before.is_empty() {
                state.length = before.len();
                state.chunks.push(Bytes::copy_from_slice(before));
            }
        }
        if state.writer == Some(self.name) && !chunk.is_empty() {
            state.length += chunk.len();
            state.chunks.push(chunk.clone());
            drop(state);
            self.tape.changed.send_modify(|_| ());
        }
    }

    /// Its bytes are no answer.
    pub fn void(&self) {
        let mut state = self.tape.lock();
        if state.writer == Some(self.name) {
            state.void();
        }
    }
}

impl Recorded {
    fn void(&mut self) {
        self.writer = None;
        self.chunks.clear();
        self.take += u64::from(self.length > 0);
        self.length = 0;
    }
}

/// The tapes of unfinished jobs that run or are read here.
#[derive(Default)]
pub struct Tapes(Mutex<HashMap<JobId, Arc<Tape>>>);

impl Tapes {
    /// A job's tape.
    pub fn of(&self, id: &JobId) -> Arc<Tape> {
        let mut tapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tapes.entry(id.clone()).or_default().clone()
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Somebody leaves: a tape that is nobody's is taken away.
    pub fn left(&self, id: &JobId, tape: &Arc<Tape>) {
        let mut tapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The list's and the leaver's; another is only made under this lock or from another.
        if Arc::strong_count(tape) <= 2 && tapes.get(id).is_some_and(|own| Arc::ptr_eq(own, tape)) {
            tapes.remove(id);
        }
    }

    /// The job's state changed elsewhere: its readers look again.
    pub fn touch(&self, id: &JobId) {
        let tapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tape) = tapes.get(id) {
            tape.touch();
        }
    }

    /// All readers look again.
    pub fn touch_all(&self) {
        let tapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for tape in tapes.values() {
            tape.touch();
        }
    }

    /// The job is finished: readers are told, and keep the tape as long as they need it.
    pub fn finished(&self, id: &JobId) {
        let mut tapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tape) = tapes.remove(id) {
            tape.touch();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tape: &Tape, take: u64, from: usize) -> (u64, Vec<u8>) {
        let news = tape.after(take, from);
        (news.take, news.chunks.concat())
    }

    #[test]
    fn a_reader_has_the_bytes_of_one_attempt_and_is_told_of_anothers() {
        let tape = Arc::new(Tape::default());
        let (first, second) = (tape.writer(), tape.writer());
        first.write(b"", &Bytes::from_static(b"abc"));
        second.write(b"", &Bytes::from_static(b"12"));
        first.write(b"abc", &Bytes::from_static(b"def"));
        assert_eq!(read(&tape, 0, 2), (0, b"cdef".to_vec()));
        assert_eq!(read(&tape, 0, 6), (0, Vec::new()));
        second.void();
        assert_eq!(read(&tape, 0, 6), (0, Vec::new()));
        first.void();
        second.write(b"12", &Bytes::from_static(b"34"));
        assert_eq!(read(&tape, 0, 6), (1, b"1234".to_vec()));
    }
}
