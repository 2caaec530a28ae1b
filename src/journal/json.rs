//! A JSON object on a line of its own, of which most members are those of the line before.
//!
//! What lines share is composed once, as a form with gaps; a line is the form, with its own values in the
//! gaps. A serializer looks at each byte of each name for what needs escaping: with it a line took 11,500
//! instructions, a quarter of all that a call takes; written member by member 5,000.
//!
//! Promises: what is written is JSON, whatever a caller's text holds; a line whose form is there allocates
//! nothing.

use std::time::Duration;

use crate::digits::{self, EACH};

/// What a member can be.
pub trait Value {
    /// Writes it.
    fn write(self, to: &mut Vec<u8>);
}

/// A word of the code's own, or digits, of which none needs escaping.
pub struct Word<'a>(pub &'a str);

/// Not zero where one of eight bytes needs escaping: a quote, a backslash, or what is below a space
/// (Anderson, Bit Twiddling Hacks: a word that has a byte that is zero, or below another).
fn needs(word: u64) -> u64 {
    let below = |word: u64, byte: u8| word.wrapping_sub(EACH * u64::from(byte)) & !word;
    let equal = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    (below(word, b' ') | equal(b'"') | equal(b'\\')) & (EACH << 7)
}

/// Whether a text stands in JSON as it is. Looks at eight bytes at a time, and at all of them.
fn is_plain(text: &str) -> bool {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let all = words.iter().chain([&last]);
    all.fold(0, |found, word| found | needs(u64::from_ne_bytes(*word))) == 0
}

impl Value for &str {
    fn write(self, to: &mut Vec<u8>) {
        if is_plain(self) {
            Word(self).write(to);
        } else {
            serde_json::to_writer(to, self).expect("a text is JSON, and memory can be written");
        }
    }
}

impl Value for Word<'_> {
    fn write(self, to: &mut Vec<u8>) {
        debug_assert!(is_plain(self.0), "{:?}", self.0);
        to.push(b'"');
        to.extend_from_slice(self.0.as_bytes());
        to.push(b'"');
    }
}

impl Value for u64 {
    fn write(self, to: &mut Vec<u8>) {
        to.extend_from_slice(itoa::Buffer::new().format(self).as_bytes());
    }
}

/// Milliseconds with three digits after the point.
impl Value for Duration {
    #[inline(never)]
    fn write(self, to: &mut Vec<u8>) {
        digits::millis(self, to);
    }
}

impl Value for bool {
    fn write(self, to: &mut Vec<u8>) {
        to.extend_from_slice(if self { b"true" } else { b"false" });
    }
}

/// What is not there is `null`.
impl<V: Value> Value for Option<V> {
    fn write(self, to: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(to),
            None => to.extend_from_slice(b"null"),
        }
    }
}

/// Whoever is told an object's members: to compose a form, or to fill its gaps.
pub trait Members {
    /// One that all lines of a form share.
    fn shared(&mut self, name: &'static str, value: impl Value);

    /// One of each line's own.
    fn own(&mut self, name: &'static str, value: impl Value);

    /// Objects, one for each of `all`: as many in each line of a form.
    fn objects<T>(
        &mut self,
        name: &'static str,
        all: impl Iterator<Item = T>,
        write: impl FnMut(&mut Self, T),
    );
}

/// A line without what is its own.
#[derive(Default)]
pub struct Form {
    text: Vec<u8>,
    /// Where the values stand that are not there.
    gaps: Vec<usize>,
}

impl Form {
    /// Composes it anew of an object whose members `tell` tells.
    pub fn compose(&mut self, tell: impl FnOnce(&mut Composed<'_>)) {
        self.text.clear();
        self.gaps.clear();
        Composed(self).object(tell);
        self.text.push(b'\n');
    }

    /// Writes a line, with the line's end; `tell` tells the same members.
    pub fn fill(&self, to: &mut Vec<u8>, tell: impl FnOnce(&mut Filled<'_>)) {
        let (form, gaps) = (&self.text[..], self.gaps.iter());
        let mut filled = Filled {
            form,
            gaps,
            at: 0,
            to,
        };
        tell(&mut filled);
        debug_assert!(filled.gaps.next().is_none(), "it is another object's form");
        let rest = filled.at;
        to.extend_from_slice(&form[rest..]);
    }
}

/// A form that is composed.
pub struct Composed<'a>(&'a mut Form);

impl Composed<'_> {
    fn named(&mut self, name: &str) -> &mut Vec<u8> {
        let to = &mut self.0.text;
        to.extend_from_slice(b",\"");
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(b"\":");
        to
    }

    fn object(&mut self, tell: impl FnOnce(&mut Self)) {
        let begin = self.0.text.len();
        tell(self);
        let to = &mut self.0.text;
        // What stands before the first member is what opens the object.
        match to.get_mut(begin) {
            Some(comma) => *comma = b'{',
            None => to.push(b'{'),
        }
        to.push(b'}');
    }
}

impl Members for Composed<'_> {
    fn shared(&mut self, name: &'static str, value: impl Value) {
        value.write(self.named(name));
    }

    fn own(&mut self, name: &'static str, _: impl Value) {
        let gap = self.named(name).len();
        self.0.gaps.push(gap);
    }

    fn objects<T>(
        &mut self,
        name: &'static str,
        all: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.named(name).push(b'[');
        for (number, one) in all.enumerate() {
            if number > 0 {
                self.0.text.push(b',');
            }
            self.object(|inner| write(inner, one));
        }
        self.0.text.push(b']');
    }
}

/// A form whose gaps are filled.
pub struct Filled<'a> {
    form: &'a [u8],
    gaps: std::slice::Iter<'a, usize>,
    at: usize,
    to: &'a mut Vec<u8>,
}

impl Filled<'_> {
    /// Writes what stands before the next gap.
    #[inline(never)]
    fn next(&mut self) -> &mut Vec<u8> {
        let gap = self.gaps.next();
        let gap = *gap.expect("a form has a gap for each of its own members");
        self.to.extend_from_slice(&self.form[self.at..gap]);
        self.at = gap;
        self.to
    }
}

impl Members for Filled<'_> {
    fn shared(&mut self, _: &'static str, _: impl Value) {}

    fn own(&mut self, _: &'static str, value: impl Value) {
        value.write(self.next());
    }

    fn objects<T>(
        &mut self,
        _: &'static str,
        all: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        all.for_each(|one| write(self, one));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_without_members_is_one_too() {
        let (mut form, mut to) = (Form::default(), Vec::new());
        form.compose(|line| {
            line.objects("none", [0; 0].into_iter(), |_, _| {});
            line.objects("two", [1, 2].into_iter(), |_, _| {});
        });
        form.fill(&mut to, |_| {});
        assert_eq!(to, b"{\"none\":[],\"two\":[{},{}]}\n");
    }

    struct Line {
        text: String,
        number: u64,
        is: bool,
    }

    fn tell(line: &Line, to: &mut impl Members) {
        to.own("own", Some(&*line.text));
        to.shared("text", Some(&*line.text));
        to.shared("unsaid", None::<&str>);
        to.shared("word", Some(Word("it")));
        to.own("number", line.number);
        to.shared("none", None::<u64>);
        to.own("never", None::<Duration>);
        to.shared("is", line.is);
        to.objects("all", [1, 2].into_iter(), |inner, one: u64| {
            inner.shared("one", one);
            inner.own("is", line.is);
        });
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was_meant(
            text in any::<String>(),
            number in any::<u64>(),
            is: bool,
        ) {
            let line = Line { text, number, is };
            let (mut form, mut to) = (Form::default(), Vec::new());
            form.compose(|to| tell(&line, to));
            // Each line of the form has its own values in the gaps.
            let other = Line { text: "other".into(), number: 7, is: !is };
            form.fill(&mut to, |to| tell(&other, to));
            form.fill(&mut to, |to| tell(&line, to));
            let lines: Vec<_> = to.split_inclusive(|byte| *byte == b'\n').collect();
            prop_assert_eq!(lines.len(), 2);
            for (told, line_of) in lines.iter().zip([&other, &line]) {
                let read: serde_json::Value = serde_json::from_slice(told).expect("it is JSON");
                prop_assert_eq!(read, json!({
                    "own": line_of.text, "text": line.text, "unsaid": null, "word": "it", "number": line_of.number,
                    "none": null, "never": null, "is": is,
                    "all": [{"one": 1, "is": line_of.is}, {"one": 2, "is": line_of.is}],
                }));
            }
        }
    }
}
