//! A call's place in a trace (W3C Trace Context, level 1 and 2): `traceparent`, read and written.
//!
//! Promises: what is not well formed is as good as absent; nothing else of it is kept.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::digits::hex;

/// Where it stands.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a vendor wrote beside it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// It is recorded.
pub const SAMPLED: u8 = 1;

/// Its trace's id is random in its last seven bytes.
const RANDOM: u8 = 2;

const LENGTH: usize = 55;

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; not zero.
    pub trace: u128,
    /// The span that what comes next belongs to; zero: there is none.
    pub span: u64,
    /// Flags.
    pub flags: u8,
}

impl Context {
    /// The one that a call came with.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let (line, more) = (lines.next()?, lines.next());
        if more.is_some() {
            return None;
        }
        read(line.as_bytes())
    }

    /// A trace that begins here.
    pub fn begin() -> Self {
        Self {
            trace: rand::random::<u128>().max(1),
            span: 0,
            flags: RANDOM,
        }
    }

    /// Whether it is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Its trace, in hexadecimal digits.
    pub fn trace_digits(&self) -> [u8; 32] {
        let mut text = [0; 32];
        hex(&self.trace.to_be_bytes(), &mut text);
        text
    }

    /// As it is sent on, for what is done within this span.
    pub fn header(&self) -> HeaderValue {
        let mut text = [b'-'; LENGTH];
        text[..2].copy_from_slice(b"00");
        hex(&self.trace.to_be_bytes(), &mut text[3..35]);
        hex(&self.span.to_be_bytes(), &mut text[36..52]);
        hex(&[self.flags & (SAMPLED | RANDOM)], &mut text[53..]);
        HeaderValue::from_bytes(&text).expect("digits and hyphens are a header's value")
    }
}

/// What a request says of its trace.
pub struct Told {
    parent: HeaderValue,
    begun: bool,
}

impl Told {
    /// That it is within this span; `context`: where its call stands.
    pub fn within(span: u64, context: Context) -> Self {
        let begun = context.span == 0;
        let parent = Context { span, ..context }.header();
        Self { parent, begun }
    }

    /// Writes it. In a trace that begins here nothing that came stands beside it.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.parent);
        if self.begun {
            headers.remove(TRACESTATE);
        }
    }
}

/// A new span's id.
pub fn span_id() -> u64 {
    rand::random::<u64>().max(1)
}

fn read(line: &[u8]) -> Option<Context> {
    // Later versions may add to it, after a hyphen.
    let (known, rest) = line.split_at_checked(LENGTH)?;
    let hyphens = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let version = number(&known[..2])?;
    let fits = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest[0] == b'-',
    };
    let context = Context {
        trace: number(&known[3..35])?,
        span: u64::try_from(number(&known[36..52])?).ok()?,
        flags: u8::try_from(number(&known[53..])?).ok()?,
    };
    (hyphens && fits && context.trace != 0 && context.span != 0).then_some(context)
}

/// Lower-case hexadecimal digits.
fn number(text: &[u8]) -> Option<u128> {
    let lower = text
        .iter()
        .all(|one| matches!(one, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(text).ok().filter(|_| lower)?;
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_well_formed_is_read_and_written_back() {
        let context = read(GIVEN.as_bytes()).expect("it is the example of the specification");
        assert_eq!(context.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(context.span, 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled());
        assert_eq!(context.header(), GIVEN);
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what";
        assert!(!read(later.as_bytes()).unwrap().is_sampled());
    }

    #[test]
    fn what_is_not_well_formed_is_as_good_as_absent() {
        for wrong in [
            "",
            "00",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0+",
        ] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, HeaderValue::from_static(GIVEN));
        assert!(Context::of(&twice).is_some());
        twice.append(TRACEPARENT, HeaderValue::from_static(GIVEN));
        assert_eq!(Context::of(&twice), None);
    }
}
