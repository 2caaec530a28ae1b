//! Lines and spans that wait to be sent: each thread writes them on a sheet of its own, and hands it in.
//!
//! They are made where their call ends: what is told of a call is warm there, and nothing of it is freed
//! on another thread. The thread that writes lines takes a quarter of the CPU that it takes where it makes
//! them as well; and a call whose memory waits elsewhere to be freed leaves the next one cold memory.
//!
//! Promises: an entry costs its thread an exchange each for taking up the sheet and laying it down, and
//! never a wait; where too many wait the newest sheets are left out and counted. The entries of a
//! thread stay in their order.

use crossbeam_queue::ArrayQueue;
use metrics::Counter;

use super::Queue;
use crate::latency::shard;

/// Entries of a sheet at most, and its bytes past which it is full as well.
const ENTRIES: usize = 64;
const BYTES: usize = 64 << 10;

/// Empty sheets that are kept for further use.
const SPARE: usize = 32;

/// Some entries.
#[derive(Default)]
pub struct Sheet {
    /// What is written on it.
    pub text: Vec<u8>,
    /// As how much it counts.
    pub count: usize,
    entries: usize,
}

/// All sheets.
pub struct Sheets {
    /// For each thread the one that it writes on. Who reads them takes them as well.
    open: Box<[ArrayQueue<Sheet>]>,
    full: Queue<Sheet>,
    /// Entries of one.
    entries: usize,
    spare: ArrayQueue<Sheet>,
}

impl Sheets {
    /// Sheets of so many threads, of which so many entries may wait besides those on sheets in use.
    pub fn new(threads: usize, most: usize, left_out: Counter) -> Self {
        let open = (0..threads.max(1)).map(|_| ArrayQueue::new(1));
        let entries = most.clamp(1, ENTRIES);
        Self {
            open: open.collect(),
            full: Queue::new(most.div_ceil(entries).max(1), left_out),
            entries,
            spare: ArrayQueue::new(SPARE),
        }
    }

    /// Makes an entry on this thread's sheet; `write` gives as how much it counts.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>) -> usize) {
        let open = &self.open[shard(self.open.len())];
        let sheet = open.pop().or_else(|| self.spare.pop());
        let mut sheet = sheet.unwrap_or_default();
        sheet.count += write(&mut sheet.text);
        sheet.entries += 1;
        let full = sheet.entries >= self.entries || sheet.text.len() >= BYTES;
        // Threads that share a sheet may have laid down another one.
        let rest = if full { Err(sheet) } else { open.push(sheet) };
        if let Err(sheet) = rest {
            let count = sheet.count;
            self.full.leave(sheet, count);
        }
    }

    /// Takes all sheets, those in use as well; whether so many waited that there may soon be too many.
    pub fn take(&self, to: &mut Vec<Sheet>) -> bool {
        // Those in use are taken first and stand last: what the same threads handed in is older.
        let open: Vec<_> = self.open.iter().filter_map(ArrayQueue::pop).collect();
        let full = &self.full.waiting;
        let waiting = full.len();
        to.extend(std::iter::from_fn(|| full.pop()).take(waiting));
        to.extend(open);
        waiting > full.capacity() / 4
    }

    /// Takes one sheet: a full one, else one in use.
    pub fn take_one(&self) -> Option<Sheet> {
        let full = self.full.waiting.pop();
        full.or_else(|| self.open.iter().find_map(ArrayQueue::pop))
    }

    /// Gives a sheet back that was sent.
    pub fn give_back(&self, mut sheet: Sheet) {
        sheet.text.clear();
        (sheet.count, sheet.entries) = (0, 0);
        // One more than are kept is freed.
        let _ = self.spare.push(sheet);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn taken(sheets: &Sheets) -> Vec<String> {
        let mut all = Vec::new();
        sheets.take(&mut all);
        let text = all.into_iter().flat_map(|sheet| sheet.text).collect();
        let text = String::from_utf8(text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn add(sheets: &Sheets, line: usize) {
        sheets.add(|text| {
            text.extend_from_slice(format!("{line}\n").as_bytes());
            1
        });
    }

    #[test]
    fn lines_come_in_their_order_whenever_they_are_taken() {
        let sheets = Sheets::new(1, 1_000, Counter::noop());
        let mut seen = Vec::new();
        for line in 0..500 {
            add(&sheets, line);
            if line % 77 == 0 {
                seen.extend(taken(&sheets));
            }
        }
        seen.extend(taken(&sheets));
        assert_eq!(
            seen,
            (0..500).map(|line| line.to_string()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn past_so_many_lines_the_newest_are_left_out() {
        let left_out = Arc::new(AtomicU64::new(0));
        let sheets = Sheets::new(1, 2 * ENTRIES, Counter::from_arc(left_out.clone()));
        for line in 0..10 * ENTRIES {
            add(&sheets, line);
        }
        let kept = taken(&sheets);
        assert_eq!(kept.len(), 2 * ENTRIES);
        assert_eq!(kept[0], "0");
        assert_eq!(left_out.load(Ordering::Relaxed), 8 * ENTRIES as u64);
        add(&sheets, 7);
        assert_eq!(taken(&sheets), ["7"]);
    }

    #[test]
    fn few_wait_where_few_may() {
        let sheets = Sheets::new(1, 8, Counter::noop());
        (0..100).for_each(|line| add(&sheets, line));
        // A full sheet, and half of the one in use.
        assert_eq!(taken(&sheets).len(), 8 + 100 % 8);
    }

    #[test]
    fn one_sheet_at_a_time_all_are_taken() {
        let sheets = Sheets::new(1, 1_000, Counter::noop());
        (0..150).for_each(|line| add(&sheets, line));
        let one_by_one = std::iter::from_fn(|| sheets.take_one());
        let counts: Vec<_> = one_by_one.map(|sheet| sheet.count).collect();
        assert_eq!(counts, [ENTRIES, ENTRIES, 150 - 2 * ENTRIES]);
    }

    #[test]
    fn threads_that_share_a_sheet_lose_no_line() {
        let sheets = Sheets::new(1, 100_000, Counter::noop());
        let seen: usize = std::thread::scope(|scope| {
            let takes = || (0..50).map(|_| taken(&sheets).len()).sum::<usize>();
            let takers = [scope.spawn(takes), scope.spawn(takes)];
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|line| add(&sheets, line)));
            }
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(seen + taken(&sheets).len(), 4_000);
    }
}
