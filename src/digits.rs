//! Digits as each call writes them: hexadecimal ones, and times in milliseconds. Formats nothing.

use std::time::Duration;

use bytes::BufMut;

/// Each byte of a word, once.
pub const EACH: u64 = 0x0101_0101_0101_0101;

/// The digits of four bytes: their halves are spread over eight bytes, and to those above 9 is added
/// what lies between `9` and `a`, all at once.
fn eight(bytes: [u8; 4]) -> [u8; 8] {
    let mut spread = u64::from(u32::from_be_bytes(bytes));
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & (EACH * 0x0f);
    let letters = ((spread + EACH * 6) >> 4) & EACH;
    let between = u64::from(b'a' - b'9' - 1);
    (spread + EACH * u64::from(b'0') + letters * between).to_be_bytes()
}

/// Writes bytes in lower-case hexadecimal digits, two for each.
pub fn hex(bytes: &[u8], to: &mut [u8]) {
    let (words, rest) = bytes.as_chunks::<4>();
    let (eights, last) = to.as_chunks_mut::<8>();
    for (digits, word) in eights.iter_mut().zip(words) {
        *digits = eight(*word);
    }
    if !rest.is_empty() {
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        let digits = eight(word);
        last.copy_from_slice(&digits[..last.len()]);
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
    let micros = time.subsec_micros();
    let whole = time
        .as_secs()
        .saturating_mul(1_000)
        .saturating_add((micros / 1_000).into());
    let fraction = micros % 1_000;
    let digit = |of: u32| b'0' + u8::try_from(of % 10).expect("a digit is below 10");
    let fraction = [
        b'.',
        digit(fraction / 100),
        digit(fraction / 10),
        digit(fraction),
    ];
    if let Ok(whole @ 0..10) = u32::try_from(whole) {
        // Most are, of what a gateway does itself.
        let [point, tenths, hundredths, thousandths] = fraction;
        to.put_slice(&[digit(whole), point, tenths, hundredths, thousandths]);
        return;
    }
    to.put_slice(itoa::Buffer::new().format(whole).as_bytes());
    to.put_slice(&fraction);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_those_that_a_formatter_writes(
            number in any::<u128>(),
            length in 0usize..=16,
            micros in prop_oneof![0..20_000u64, 0..1u64 << 60],
        ) {
            let mut text = [0; 32];
            hex(&number.to_be_bytes(), &mut text);
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), format!("{number:032x}"));
            let part = &number.to_be_bytes()[..length];
            prop_assert_eq!(hex_text(part), &format!("{number:032x}")[..2 * length]);
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
