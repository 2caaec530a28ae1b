//! A histogram that is only kept: some three bytes a cell (LEB128: DWARF 5, section 7.6) in place of
//! sixteen. Windows keep one per slot, dozens for each series. Promises: what goes in comes out.

use super::snapshot::Snapshot;

/// The pairs of a snapshot: how far to the next cell, and its count.
#[derive(Debug, Default)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    pub fn new(snapshot: &Snapshot) -> Self {
        let (mut bytes, mut last) = (Vec::new(), 0);
        for (cell, count) in snapshot.pairs() {
            put(&mut bytes, u64::from(cell - last));
            put(&mut bytes, count);
            last = cell;
        }
        Self(bytes.into_boxed_slice())
    }

    /// Cell and count, by cell.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u64)> {
        let (mut rest, mut cell) = (&*self.0, 0);
        std::iter::from_fn(move || {
            let gap = u16::try_from(take(&mut rest)?).expect("a gap between cells was put in");
            cell += gap;
            Some((cell, take(&mut rest)?))
        })
    }
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(cells in prop::collection::btree_map(any::<u16>(), 1..=u64::MAX >> 20, 0..99)) {
            let cells: Vec<_> = cells.into_iter().collect();
            let packed = Packed::new(&Snapshot::from_cells(cells.clone()));
            prop_assert_eq!(packed.pairs().collect::<Vec<_>>(), cells);
        }
    }
}
