//! When the bytes of a streamed answer came.
//!
//! Promises: at most 4,096 marks an answer; a longer stream's stand for more chunks each, and none for
//! a moment before its bytes were there. What came before its call became a job has the moment at
//! which it did. Pure data.

use std::time::Duration;

/// Most marks of an answer.
const MOST: usize = 4_096;

/// Bytes up to a place, and the milliseconds after the call was sent by which they were there.
type Mark = (u64, u64);

/// The marks of an answer, in order.
#[derive(Clone, Debug)]
pub struct Timing {
    marks: Vec<Mark>,
    /// Chunks of a mark.
    step: u32,
    /// Chunks of the last mark so far.
    chunks: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            marks: Vec::new(),
            step: 1,
            chunks: 0,
        }
    }
}

impl Timing {
    /// So many bytes are there in all, so long after the call was sent.
    pub fn mark(&mut self, bytes: usize, after: Duration) {
        let mark = (
            bytes as u64,
            u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        );
        match self.marks.last_mut() {
            // What came together needs one mark.
            Some(last) if self.chunks < self.step || last.1 == mark.1 => {
                *last = mark;
                self.chunks += 1;
            }
            _ => {
                self.marks.push(mark);
                self.chunks = 1;
            }
        }
        if self.marks.len() > MOST {
            // The last stays: the list is one longer than an even bound. A mark that goes leaves
            // its bytes to the next, which came later.
            self.marks = self.marks.iter().step_by(2).copied().collect();
            self.step = self.step.saturating_mul(2);
        }
    }

    /// How long after the call was sent so many bytes were there; `None`: it is not known.
    pub fn of(&self, bytes: usize) -> Option<Duration> {
        let at = self.marks.partition_point(|mark| mark.0 < bytes as u64);
        self.marks.get(at).map(|mark| Duration::from_millis(mark.1))
    }

    /// As a store keeps it: a JSON list of pairs; empty where there is nothing to keep.
    pub fn to_text(&self) -> String {
        if self.marks.is_empty() {
            return String::new();
        }
        serde_json::to_string(&self.marks).expect("numbers are JSON")
    }

    /// Reads it back; what is none has no marks.
    pub fn from_text(text: &str) -> Self {
        Self {
            marks: serde_json::from_str(text).unwrap_or_default(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_dated_by_the_chunk_that_it_came_in() {
        let mut timing = Timing::default();
        for (bytes, millis) in [(10, 100), (20, 100), (30, 250)] {
            timing.mark(bytes, Duration::from_millis(millis));
        }
        let of = |bytes| timing.of(bytes).map(|after| after.as_millis());
        assert_eq!(of(1), Some(100));
        assert_eq!(of(20), Some(100));
        assert_eq!(of(21), Some(250));
        assert_eq!(of(31), None);
        assert_eq!(Timing::from_text(&timing.to_text()).marks, timing.marks);
        assert_eq!(timing.to_text(), "[[20,100],[30,250]]");
        assert_eq!(Timing::from_text("").of(1), None);
    }

    #[test]
    fn a_long_stream_is_dated_more_coarsely_and_never_too_early() {
        let mut timing = Timing::default();
        for chunk in 1..=20_000usize {
            timing.mark(chunk * 5, Duration::from_millis(chunk as u64));
        }
        assert!(timing.marks.len() <= MOST);
        for chunk in (1..=20_000usize).step_by(97) {
            let came = timing.of(chunk * 5).unwrap().as_millis();
            assert!(
                (chunk as u128..chunk as u128 + 16).contains(&came),
                "{chunk}: {came}"
            );
        }
    }
}
