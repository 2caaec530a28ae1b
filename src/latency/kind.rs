//! What a call is like, as far as that tells how long it will take.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The widest value of each part.
const ANY_MODEL: u32 = 0;
const ANY_BAND: u8 = u8::MAX;

/// Models beyond those that are told apart, and calls without one.
const OTHER_MODEL: u32 = 1;
const NO_MODEL: u32 = 2;

/// Requests up to so many bytes are alike: a thousand tokens are read in no time.
const SHORT: usize = 4 << 10;

/// A model's number: none of those above.
fn number(model: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    // The lower half is as good a hash.
    #[expect(clippy::cast_possible_truncation)]
    let half = hasher.finish() as u32;
    half | 1 << 31
}

/// The least power of two that is no less, as its exponent: 0 to 64.
fn log2(number: u64) -> u8 {
    let bits = u64::BITS - number.saturating_sub(1).leading_zeros();
    u8::try_from(bits).expect("a number has 64 bits")
}

/// A kind of calls: streamed or not, a model, a band of `max_tokens` (powers of two) and a band of
/// request bytes (powers of four, from 4 KiB). Eight bytes; models are told apart by a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    model: u32,
    streamed: bool,
    tokens: u8,
    bytes: u8,
}

impl Kind {
    /// The kind of a call; `most_tokens`: how long its answer may be, if it says.
    pub fn new(
        streamed: bool,
        model: Option<&str>,
        most_tokens: Option<u64>,
        bytes: usize,
    ) -> Self {
        Self {
            model: model.map_or(NO_MODEL, number),
            streamed,
            tokens: most_tokens.map_or(0, |most| 1 + log2(most)),
            bytes: log2(bytes.div_ceil(SHORT) as u64).div_ceil(2),
        }
    }

    /// Whether its calls are streams.
    pub fn is_streamed(self) -> bool {
        self.streamed
    }

    /// The next wider kind: any prompt, then any `max_tokens`, then any model; then none.
    pub(super) fn wider(self) -> Option<Self> {
        if self.bytes != ANY_BAND {
            return Some(Self {
                bytes: ANY_BAND,
                ..self
            });
        }
        if self.tokens != ANY_BAND {
            return Some(Self {
                tokens: ANY_BAND,
                ..self
            });
        }
        let all = Self {
            model: ANY_MODEL,
            ..self
        };
        (self.model != ANY_MODEL).then_some(all)
    }

    /// How wide it is: 0 to 3.
    pub(super) fn width(self) -> usize {
        std::iter::successors(self.wider(), |kind| kind.wider())
            .count()
            .abs_diff(3)
    }

    /// All calls of its model.
    pub(super) fn of_model(self) -> Self {
        Self {
            tokens: ANY_BAND,
            bytes: ANY_BAND,
            ..self
        }
    }

    /// Whether it is a model's own, at its widest.
    pub(super) fn is_model(self) -> bool {
        self.width() == 2 && self.model != OTHER_MODEL
    }

    /// The same of the models that are not told apart.
    pub(super) fn of_others(self) -> Self {
        Self {
            model: OTHER_MODEL,
            ..self
        }
    }

    /// A number that spreads well (Knuth's multiplicative hash).
    pub(super) fn spread(self) -> u64 {
        let [tokens, bytes] = [self.tokens, self.bytes].map(u64::from);
        let packed =
            u64::from(self.model) << 32 | tokens << 16 | bytes << 8 | u64::from(self.streamed);
        packed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(tokens: u64, bytes: usize) -> Kind {
        Kind::new(false, Some("m"), Some(tokens), bytes)
    }

    #[test]
    fn calls_of_one_band_are_alike_and_of_the_next_are_not() {
        assert_eq!(kind(129, 1), kind(256, 4_096));
        assert_ne!(kind(256, 1), kind(257, 1));
        assert_ne!(kind(1, 4_096), kind(1, 4_097));
        assert_eq!(kind(1, 4_097), kind(1, 16_384));
        assert_ne!(kind(1, 16_384), kind(1, 16_385));
        assert_ne!(kind(1, 1), Kind::new(true, Some("m"), Some(1), 1));
        assert_ne!(kind(1, 1), Kind::new(false, None, Some(1), 1));
        assert_ne!(kind(1, 1), Kind::new(false, Some("m"), None, 1));
        // No call is as wide as a wider kind.
        let largest = Kind::new(false, Some(""), Some(u64::MAX), usize::MAX);
        assert_eq!(largest.width(), 0);
    }

    #[test]
    fn each_kind_is_part_of_a_wider_one_up_to_all_calls() {
        let mut at = kind(256, 9_000);
        for width in 0..3 {
            assert_eq!(at.width(), width);
            at = at.wider().expect("there is a wider one");
        }
        assert_eq!((at.width(), at.wider()), (3, None));
        let other = Kind::new(false, Some("other"), None, 1);
        assert_eq!(
            other.wider().and_then(|kind| kind.wider()?.wider()),
            Some(at)
        );
        assert!(other.of_model().is_model() && !other.of_model().of_others().is_model());
    }
}
