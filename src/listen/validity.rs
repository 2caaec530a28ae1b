//! From when to when a certificate is valid, read out of its DER (RFC 5280 4.1).
//!
//! Promises: no panic, whatever the bytes are. Verifies nothing: rustls does that for peers, and
//! nobody has to for one's own certificate.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not valid before.
    pub from: i64,
    /// Not valid after.
    pub until: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Validity {
    /// Whether it holds now.
    ///
    /// # Errors
    /// The end of a sentence that begins with the certificate.
    pub fn holds(self) -> Result<(), &'static str> {
        self.holds_at(Timestamp::now().as_second())
    }

    /// Whether it holds at a moment, in seconds since 1970.
    ///
    /// # Errors
    /// As of [`Validity::holds`].
    pub fn holds_at(self, now: i64) -> Result<(), &'static str> {
        if now < self.from {
            return Err("is not valid yet");
        }
        if now > self.until {
            return Err("has expired");
        }
        Ok(())
    }

    /// Of a certificate; `None` where there is none in the bytes.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(der, SEQUENCE)?;
        let (_, mut rest, _) = element(certificate, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            (_, _, rest) = any(rest)?;
        }
        // Serial number, signature algorithm and issuer stand before it.
        for _ in 0..3 {
            (_, _, rest) = any(rest)?;
        }
        let (_, validity, _) = element(rest, SEQUENCE)?;
        let (from_tag, from, rest) = any(validity)?;
        let (until_tag, until, _) = any(rest)?;
        Some(Self {
            from: moment(from_tag, from)?,
            until: moment(until_tag, until)?,
        })
    }
}

type Element<'a> = (u8, &'a [u8], &'a [u8]);

fn element(bytes: &[u8], wanted: u8) -> Option<Element<'_>> {
    any(bytes).filter(|(tag, _, _)| *tag == wanted)
}

/// Tag, contents, and what follows.
fn any(bytes: &[u8]) -> Option<Element<'_>> {
    let (&[tag, length], mut rest) = bytes.split_first_chunk::<2>()?;
    let mut length = usize::from(length);
    if length >= 0x80 {
        let (digits, after) = rest.split_at_checked(length - 0x80)?;
        if digits.is_empty() || digits.len() > 3 {
            return None;
        }
        let whole = |sum, digit: &u8| (sum << 8) | usize::from(*digit);
        (length, rest) = (digits.iter().fold(0, whole), after);
    }
    let (contents, after) = rest.split_at_checked(length)?;
    Some((tag, contents, after))
}

fn moment(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let whole = match tag {
        // RFC 5280 4.1.2.5.1: two digits from 50 on are of the last century.
        UTC_TIME if text.get(..2)? >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let civil = DateTime::strptime("%Y%m%d%H%M%S", whole).ok()?;
    Some(TimeZone::UTC.to_timestamp(civil).ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(from: i32, until: i32) -> Vec<u8> {
        let mut asked = rcgen::CertificateParams::new(["localhost".into()]).expect("a name");
        asked.not_before = rcgen::date_time_ymd(from, 1, 1);
        asked.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        asked
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let read = Validity::of(&made(1999, 2060)).expect("a validity");
        // 1999-01-01 is a UTCTime, 2060-01-01 a GeneralizedTime.
        assert_eq!(read.from, 915_148_800);
        assert_eq!(read.until, 2_840_140_800);
    }

    proptest! {
        #[test]
        fn nothing_that_is_cut_or_bent_is_more_than_refused(
            cut in 0_usize..1_000, at in 0_usize..1_000, byte: u8,
        ) {
            let mut der = made(2020, 2040);
            let length = der.len();
            der[at % length] = byte;
            let _ = Validity::of(&der);
            prop_assert_eq!(Validity::of(&der[..cut % length]), None);
        }
    }
}
