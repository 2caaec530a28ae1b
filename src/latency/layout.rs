//! Which cell of a histogram counts which duration.
//!
//! The layout is HdrHistogram's (Gil Tene) for three significant digits from 1 µs to four days:
//! block 0 holds 2,048 cells of 1 µs, each further block 1,024 cells twice as wide as the last,
//! so that a cell is never wider than 0.1% of what it counts.

use std::time::Duration;

/// The longest duration told apart: four days, for callbacks that are tried for three. What is longer counts
/// as this.
pub const MAX: Duration = Duration::from_hours(96);

/// The longest duration of a call that anything is decided by: tables that have no room for more end here.
pub(super) const HOUR: Duration = Duration::from_hours(1);

/// log2 of the cells in a block after the first.
const HALF_BITS: u32 = 10;
const HALF: u64 = 1 << HALF_BITS;

/// Blocks: the last one ends above `MAX`.
pub(super) const BLOCKS: usize = 29;

/// Cells in block 0.
const FIRST: usize = 2 << HALF_BITS;

/// All cells.
#[cfg(test)]
pub(super) const CELLS: usize = FIRST + (BLOCKS - 1) * (1 << HALF_BITS);

/// Cells of a block.
pub(super) const fn block_len(block: usize) -> usize {
    if block == 0 { FIRST } else { 1 << HALF_BITS }
}

/// The number of a block's first cell.
pub(super) const fn block_start(block: usize) -> usize {
    if block == 0 {
        0
    } else {
        FIRST + (block - 1) * (1 << HALF_BITS)
    }
}

/// Microseconds, capped to the range.
pub(super) fn micros(duration: Duration) -> u64 {
    let capped = duration.min(MAX);
    capped.as_secs() * 1_000_000 + u64::from(capped.subsec_micros())
}

/// Where a value in microseconds is counted: block, and offset in it.
pub(super) fn locate(value: u64) -> (usize, usize) {
    let bits = u64::BITS - (value | 1).leading_zeros();
    let block = bits.saturating_sub(HALF_BITS + 1);
    let scaled = value >> block;
    let offset = if block == 0 { scaled } else { scaled - HALF };
    (
        block as usize,
        usize::try_from(offset).expect("an offset is below 2,048"),
    )
}

/// The values of a cell in microseconds: lowest and highest, both included.
pub(super) fn bounds(cell: u16) -> (u64, u64) {
    let cell = u64::from(cell);
    let first = FIRST as u64;
    if cell < first {
        return (cell, cell);
    }
    let block = (cell - first) / HALF + 1;
    let low = (HALF + (cell - first) % HALF) << block;
    (low, low + (1 << block) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell(value: u64) -> u16 {
        let (block, offset) = locate(value);
        u16::try_from(block_start(block) + offset).unwrap()
    }

    #[test]
    fn the_longest_duration_has_the_last_block() {
        let (block, _) = locate(micros(MAX));
        assert_eq!(block, BLOCKS - 1);
        assert!(u16::try_from(CELLS).is_ok());
    }

    proptest! {
        #[test]
        fn a_value_lies_within_its_cell_and_a_cell_is_narrow(value in 0..345_600_000_001u64) {
            let (low, high) = bounds(cell(value));
            prop_assert!(low <= value && value <= high);
            prop_assert!((high - low) * 1_000 <= value.max(1));
        }

        #[test]
        fn cells_follow_each_other(index in 0..u16::try_from(CELLS - 1).unwrap()) {
            prop_assert_eq!(bounds(index).1 + 1, bounds(index + 1).0);
            prop_assert_eq!(cell(bounds(index).0), index);
        }
    }
}
