//! A recorder: durations counted since the process began, one set of cells per thread.
//!
//! Promises: `record` is one relaxed addition to a cell that only this thread writes; it never
//! waits. Cells are allocated a block at a time, when a value first falls there.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::layout::{BLOCKS, block_len, block_start, locate, micros};
use super::snapshot::Snapshot;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Says which shard this thread records into; threads that never say share the last one.
pub fn set_shard(index: usize) {
    SHARD.set(index);
}

/// The shard of this thread among so many (at least one).
pub fn shard(of: usize) -> usize {
    SHARD.get().min(of - 1)
}

#[derive(Default)]
struct Shard {
    blocks: [OnceLock<Box<[AtomicU64]>>; BLOCKS],
}

impl Shard {
    fn cell(&self, value: u64) -> &AtomicU64 {
        let (block, offset) = locate(value);
        let cells = self.blocks[block].get_or_init(|| {
            let mut cells = Vec::new();
            cells.resize_with(block_len(block), AtomicU64::default);
            cells.into_boxed_slice()
        });
        &cells[offset]
    }
}

/// Durations from 1 µs to four days at three significant digits. 8 KiB a block in use (16 KiB the
/// first) and thread; a series whose values lie within a factor of 32 has six.
pub struct Series {
    shards: Box<[Shard]>,
}

impl Series {
    /// A series for so many threads (at least one); the last shard is everyone else's.
    pub fn new(shards: usize) -> Self {
        let mut all = Vec::new();
        all.resize_with(shards.max(1), Shard::default);
        Self {
            shards: all.into_boxed_slice(),
        }
    }

    /// Counts one duration; longer than `MAX` counts as that.
    pub fn record(&self, duration: Duration) {
        self.record_n(duration, 1);
    }

    /// Counts a duration `times` times.
    pub fn record_n(&self, duration: Duration, times: u64) {
        self.shards[shard(self.shards.len())]
            .cell(micros(duration))
            .fetch_add(times, Ordering::Relaxed);
    }

    /// What was counted since the beginning.
    pub fn cumulative(&self) -> Snapshot {
        let mut cells = Vec::new();
        for block in 0..BLOCKS {
            let in_use: Vec<&[AtomicU64]> = self
                .shards
                .iter()
                .filter_map(|shard| shard.blocks[block].get().map(AsRef::as_ref))
                .collect();
            let Some((first, others)) = in_use.split_first() else {
                continue;
            };
            for (offset, cell) in first.iter().enumerate() {
                let mut count = cell.load(Ordering::Relaxed);
                for cells in others {
                    count += cells[offset].load(Ordering::Relaxed);
                }
                if count > 0 {
                    let cell = u16::try_from(block_start(block) + offset)
                        .expect("there are fewer cells than 65,536");
                    cells.push((cell, count));
                }
            }
        }
        Snapshot::from_cells(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_are_those_of_hdrhistogram(
            values in prop::collection::vec(1..345_600_000_000u64, 1..300),
            quantile in 0.0..1.0f64,
        ) {
            let series = Series::new(2);
            let mut oracle = Histogram::<u64>::new_with_bounds(1, 345_600_000_000, 3).unwrap();
            for value in &values {
                series.record(Duration::from_micros(*value));
                oracle.record(*value).unwrap();
            }
            let mine = series.cumulative();
            prop_assert_eq!(mine.count(), values.len() as u64);
            prop_assert_eq!(
                mine.quantile(quantile),
                Duration::from_micros(oracle.value_at_quantile(quantile))
            );
        }
    }

    #[test]
    fn threads_record_side_by_side_and_nothing_is_lost() {
        let series = Series::new(4);
        std::thread::scope(|scope| {
            for shard in 0..6 {
                let series = &series;
                scope.spawn(move || {
                    set_shard(shard);
                    for step in 0..10_000 {
                        series.record(Duration::from_micros(step));
                    }
                });
            }
        });
        assert_eq!(series.cumulative().count(), 60_000);
    }
}
