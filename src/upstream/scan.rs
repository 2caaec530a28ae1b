//! Walks the members of a JSON object (RFC 8259) without building or decoding them.
//!
//! Promises: refuses no valid JSON object up to its depth; strings are passed over as fast as
//! memory is searched, since prompts are long. What lies inside a nested value is only matched
//! bracket by bracket: whether it is well formed beyond that is the provider's to say.

use std::ops::Range;

use memchr::memchr;

/// Nested objects and lists, as many as serde_json takes.
const DEPTH: u32 = 128;

/// One member: where its name and its value stand, quotes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name.
    pub name: Range<usize>,
    /// The value.
    pub value: Range<usize>,
}

/// Why a walk ended early.
#[derive(Debug)]
pub enum Wrong {
    /// It is no JSON object: what was expected, and at which byte.
    Json(String),
    /// A member is not what it should be: a sentence of whoever looked.
    Field(String),
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self::Json(why)
    }
}

/// Calls `seen` for each member of the object that `text` is.
///
/// # Errors
/// What is wrong with the text, or what `seen` answered.
pub fn members(
    text: &[u8],
    mut seen: impl FnMut(Member) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let mut scan = Scan { text, at: 0 };
    scan.object(&mut seen)?;
    match scan.next() {
        None => Ok(()),
        Some(_) => Err(scan.wrong("the end").into()),
    }
}

/// The same for the object that the text begins with, whatever follows it.
///
/// # Errors
/// What is wrong with the object, or what `seen` answered.
pub fn leading_members(
    text: &[u8],
    mut seen: impl FnMut(Member) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    Scan { text, at: 0 }.object(&mut seen)
}

/// The text of a JSON string, quotes included; `None`: it is none.
pub fn text_of(value: &[u8]) -> Option<String> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let plain = |byte: &u8| *byte >= b' ' && !matches!(byte, b'"' | b'\\');
    if inner.iter().all(plain) {
        return String::from_utf8(inner.to_vec()).ok();
    }
    serde_json::from_slice(value).ok()
}

/// Which of some fields a name is, quotes included; it may be written with escapes.
pub fn find(name: &[u8], among: &[&str]) -> Option<usize> {
    let plain = &name[1..name.len() - 1];
    let found = among.iter().position(|field| field.as_bytes() == plain);
    if found.is_some() || !plain.contains(&b'\\') {
        return found;
    }
    let told: String = serde_json::from_slice(name).ok()?;
    among.iter().position(|field| *field == told)
}

/// The text with other bytes in these ranges, which do not overlap.
pub fn replaced<const COUNT: usize>(
    text: &[u8],
    mut changes: [(Range<usize>, &[u8]); COUNT],
) -> Vec<u8> {
    changes.sort_by_key(|(at, _)| at.start);
    let more: usize = changes.iter().map(|(_, with)| with.len()).sum();
    let mut made = Vec::with_capacity(text.len() + more);
    let mut from = 0;
    for (at, with) in changes {
        made.extend_from_slice(&text[from..at.start]);
        made.extend_from_slice(with);
        from = at.end;
    }
    made.extend_from_slice(&text[from..]);
    made
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn wrong(&self, wanted: &str) -> String {
        format!("{wanted} was expected at byte {}", self.at)
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        self.space();
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), String> {
        if self.next() != Some(wanted) {
            return Err(self.wrong(&format!("`{}`", wanted as char)));
        }
        self.at += 1;
        Ok(())
    }

    fn object(&mut self, seen: &mut impl FnMut(Member) -> Result<(), Wrong>) -> Result<(), Wrong> {
        self.expect(b'{')?;
        if self.next() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let name = self.at;
            self.string()?;
            let name = name..self.at;
            self.expect(b':')?;
            self.space();
            let value = self.at;
            self.value()?;
            seen(Member {
                name,
                value: value..self.at,
            })?;
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.wrong("`,` or `}`").into()),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        if self.text.get(self.at) != Some(&b'"') {
            return Err(self.wrong("a string"));
        }
        let start = self.at + 1;
        let mut from = start;
        // Only quotes are searched for: prompts are full of `\\n`. A quote is a letter like others
        // after an odd number of backslashes.
        while let Some(found) = memchr(b'"', &self.text[from..]) {
            let (before, next) = (&self.text[start..from + found], from + found + 1);
            let escapes = before.iter().rev().take_while(|byte| **byte == b'\\');
            if escapes.count() % 2 == 0 {
                self.at = next;
                return Ok(());
            }
            from = next;
        }
        Err(format!("the string at byte {} has no end", self.at))
    }

    fn value(&mut self) -> Result<(), String> {
        match self.text.get(self.at) {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') => self.nested(),
            _ => self.plain(),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn plain(&mut self) -> Result<(), String> {
        let rest = &self.text[self.at..];
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
        let length = length.unwrap_or(rest.len());
        let value = &rest[..length];
        let word = matches!(value, b"true" | b"false" | b"null");
        let count =
            matches!(value, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
        if !word && !count && serde_json::from_slice::<serde::de::IgnoredAny>(value).is_err() {
            return Err(self.wrong("a value"));
        }
        self.at += length;
        Ok(())
    }

    /// An object or a list, by its brackets.
    fn nested(&mut self) -> Result<(), String> {
        // The open brackets, the innermost in the lowest bit; 1 stands for an object.
        let (mut open, mut depth) = (0u128, 0);
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' if depth == DEPTH => {
                    return Err(format!("it is nested deeper than {DEPTH}"));
                }
                b'{' | b'[' => {
                    open = open << 1 | u128::from(byte == b'{');
                    depth += 1;
                }
                b'}' | b']' if (open & 1 == 1) != (byte == b'}') => {
                    return Err(self.wrong("another bracket"));
                }
                b'}' | b']' => {
                    open >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        Err("it ends in the middle".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,6}|[\"\\\\{}\\[\\],:]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn walk(text: &[u8]) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        let walked = members(text, |member| {
            let name = serde_json::from_slice(&text[member.name]).unwrap();
            all.push((name, serde_json::from_slice(&text[member.value]).unwrap()));
            Ok(())
        });
        walked.unwrap();
        all
    }

    proptest! {
        #[test]
        fn it_finds_what_serde_json_finds(
            object in prop::collection::btree_map("[a-d\"\\\\é]{0,4}", json(), 0..5),
            pretty in any::<bool>(),
        ) {
            let object: serde_json::Map<_, _> = object.into_iter().collect();
            let text = if pretty {
                serde_json::to_vec_pretty(&object).unwrap()
            } else {
                serde_json::to_vec(&object).unwrap()
            };
            let oracle: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
            let found = walk(&text);
            prop_assert_eq!(found.len(), oracle.len());
            for (name, value) in found {
                prop_assert_eq!(&oracle[&name], &value);
            }
        }

        #[test]
        fn it_refuses_nothing_that_serde_json_takes(text in "[{}\\[\\]\",:ab1 tnul\\\\-]{0,24}") {
            let object = serde_json::from_str::<serde_json::Map<String, Value>>(&text);
            if object.is_ok() {
                prop_assert!(members(text.as_bytes(), |_| Ok(())).is_ok(), "{text}");
            }
        }

        #[test]
        fn no_part_of_an_object_is_one(text in "[ab\"\\\\1]{0,8}", cut in 0usize..60) {
            let value = serde_json::json!({"k": text, "l": [1, {"m": null}], "n": true});
            let text = value.to_string();
            if cut < text.len() && text.is_char_boundary(cut) {
                prop_assert!(members(&text.as_bytes()[..cut], |_| Ok(())).is_err());
            }
        }
    }

    #[test]
    fn nesting_has_its_limit() {
        let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(members(deep(128).as_bytes(), |_| Ok(())).is_ok());
        let why = members(deep(129).as_bytes(), |_| Ok(())).unwrap_err();
        assert!(
            matches!(&why, Wrong::Json(why) if why.contains("128")),
            "{why:?}"
        );
    }
}
