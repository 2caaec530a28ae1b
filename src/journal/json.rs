//! A JSON object, written member by member onto a line.
//!
//! Promises: what is written is JSON, whatever a caller's text holds; no allocation of its own. Names of
//! members are words of the code and are not looked at. A serializer looks at each byte of each name for
//! what needs escaping: with it a line took 11,500 instructions, a quarter of all that a call takes.

use std::time::Duration;

use crate::digits::{self, EACH};

/// A member's name as it is written: before a value, before a text, and with `null`.
#[derive(Clone, Copy)]
pub struct Name {
    pub value: &'static str,
    pub text: &'static str,
    pub null: &'static str,
}

/// The name of a member.
macro_rules! name {
    ($name:literal) => {
        $crate::journal::json::Name {
            value: concat!(",\"", $name, "\":"),
            text: concat!(",\"", $name, "\":\""),
            null: concat!(",\"", $name, "\":null"),
        }
    };
}
pub(super) use name;

/// An object that is being written.
pub struct Object<'a>(&'a mut Vec<u8>);

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

/// Writes a number.
fn write_number(number: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes an object, of which `write` tells the members.
pub fn object(to: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
    let begin = to.len();
    write(&mut Object(to));
    // What stands before the first member is what opens the object.
    match to.get_mut(begin) {
        Some(comma) => *comma = b'{',
        None => to.push(b'{'),
    }
    to.push(b'}');
}

// Not inlined: a line has thirty members, and their code would be read from memory for each call anew.
impl Object<'_> {
    fn named(&mut self, name: Name) -> &mut Vec<u8> {
        self.0.extend_from_slice(name.value.as_bytes());
        self.0
    }

    fn null(&mut self, name: Name) {
        self.0.extend_from_slice(name.null.as_bytes());
    }

    fn plain(&mut self, name: Name, text: &str) {
        debug_assert!(is_plain(text), "{text:?}");
        self.0.extend_from_slice(name.text.as_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    /// A text, or `null`.
    #[inline(never)]
    pub fn text(&mut self, name: Name, text: Option<&str>) {
        match text {
            Some(text) if is_plain(text) => self.plain(name, text),
            Some(text) => serde_json::to_writer(self.named(name), text)
                .expect("a text is JSON, and memory can be written"),
            None => self.null(name),
        }
    }

    /// A word of the code's own, or digits, of which none needs escaping; or `null`.
    #[inline(never)]
    pub fn word(&mut self, name: Name, word: Option<&str>) {
        match word {
            Some(word) => self.plain(name, word),
            None => self.null(name),
        }
    }

    /// A number, or `null`.
    #[inline(never)]
    pub fn number(&mut self, name: Name, number: Option<u64>) {
        match number {
            Some(number) => write_number(number, self.named(name)),
            None => self.null(name),
        }
    }

    /// Milliseconds with three digits after the point, or `null`.
    #[inline(never)]
    pub fn millis(&mut self, name: Name, time: Option<Duration>) {
        match time {
            Some(time) => digits::millis(time, self.named(name)),
            None => self.null(name),
        }
    }

    /// A fact.
    #[inline(never)]
    pub fn flag(&mut self, name: Name, is: bool) {
        let word: &[u8] = if is { b"true" } else { b"false" };
        self.named(name).extend_from_slice(word);
    }

    /// Objects, one for each of `all`.
    pub fn objects<T>(
        &mut self,
        name: Name,
        all: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Object<'_>, T),
    ) {
        let to = self.named(name);
        to.push(b'[');
        for (number, one) in all.enumerate() {
            if number > 0 {
                to.push(b',');
            }
            object(to, |inner| write(inner, one));
        }
        to.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_without_members_is_one_too() {
        let mut to = Vec::new();
        object(&mut to, |object| {
            object.objects(name!("none"), [0; 0].into_iter(), |_, _| {});
            object.objects(name!("two"), [1, 2].into_iter(), |_, _| {});
        });
        assert_eq!(to, br#"{"none":[],"two":[{},{}]}"#);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was_meant(
            text in any::<String>(),
            number in any::<u64>(),
            is: bool,
        ) {
            let mut to = Vec::new();
            object(&mut to, |object| {
                object.text(name!("text"), Some(&text));
                object.text(name!("unsaid"), None);
                object.word(name!("word"), Some("it"));
                object.word(name!("wordless"), None);
                object.number(name!("number"), Some(number));
                object.number(name!("none"), None);
                object.millis(name!("never"), None);
                object.flag(name!("is"), is);
                object.objects(name!("all"), [1, 2].into_iter(), |inner, one| inner.number(name!("one"), Some(one)));
            });
            let read: serde_json::Value = serde_json::from_slice(&to).expect("it is JSON");
            prop_assert!(!to.contains(&b'\n'));
            prop_assert_eq!(read, json!({
                "text": text, "unsaid": null, "word": "it", "wordless": null, "number": number, "none": null, "never": null,
                "is": is, "all": [{"one": 1}, {"one": 2}],
            }));
        }
    }
}
