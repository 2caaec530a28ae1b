//! Digits as each call writes them: hexadecimal ones, and times in milliseconds. Formats nothing.

use std::time::Duration;

use bytes::BufMut;

/// Both digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Writes bytes in lower-case hexadecimal digits, two for each.
pub fn hex(bytes: &[u8], to: &mut [u8]) {
    for (pair, byte) in to.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = PAIRS[usize::from(*byte)];
    }
}

/// The same as a text of its own.
pub fn hex_text(bytes: &[u8]) -> String {
    let mut text = vec![0; 2 * bytes.len()];
    hex(bytes, &mut text);
    String::from_utf8(text).expect("digits are ASCII")
}

/// Writes a time in milliseconds with three digits after the point: `12.345`.
pub fn millis(time: Duration, to: &mut impl BufMut) {
    let mut digits = itoa::Buffer::new();
    let whole = time
        .as_secs()
        .saturating_mul(1_000)
        .saturating_add(time.subsec_millis().into());
    to.put_slice(digits.format(whole).as_bytes());
    to.put_u8(b'.');
    // A leading 1 keeps the zeros that follow it.
    let fraction = digits.format(1_000 + time.subsec_micros() % 1_000);
    to.put_slice(&fraction.as_bytes()[1..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_those_that_a_formatter_writes(number in any::<u128>(), micros in 0..1u64 << 60) {
            let mut text = [0; 32];
            hex(&number.to_be_bytes(), &mut text);
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), format!("{number:032x}"));
            prop_assert_eq!(hex_text(&number.to_be_bytes()), format!("{number:032x}"));
            let mut to = Vec::new();
            millis(Duration::from_micros(micros), &mut to);
            prop_assert_eq!(String::from_utf8(to).unwrap(), format!("{}.{:03}", micros / 1_000, micros % 1_000));
        }
    }

    #[test]
    fn the_longest_time_is_written_too() {
        let mut to = Vec::new();
        millis(Duration::MAX, &mut to);
        assert!(to.starts_with(b"18446744073709551"), "{to:?}");
    }
}
