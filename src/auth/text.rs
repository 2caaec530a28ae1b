//! What a key looks like: `shunt_<id>_<secret>`, so that scanners of secrets find it.
//!
//! The id has 48 bits and tells which key it is, the secret 160 random bits and 24 bits of SHA-256
//! over all before them, which tell a key that was cut or mistyped from one that was revoked.

use sha2::{Digest as _, Sha256};

use crate::digits::hex_text as hex;

/// How each key begins.
pub const PREFIX: &str = "shunt_";

/// Characters of an id, of the secret and of its check.
pub(super) const ID: usize = 12;
const SECRET: usize = 40;
const CHECK: usize = 6;
const LENGTH: usize = PREFIX.len() + ID + 1 + SECRET + CHECK;

fn check(before: &str) -> String {
    hex(&Sha256::digest(before.as_bytes())[..CHECK / 2])
}

/// A new key and its id.
pub fn new() -> (String, String) {
    let (id, secret) = (
        rand::random::<[u8; ID / 2]>(),
        rand::random::<[u8; SECRET / 2]>(),
    );
    let id = hex(&id);
    let before = format!("{PREFIX}{id}_{}", hex(&secret));
    let check = check(&before);
    (format!("{before}{check}"), id)
}

/// The id in a key's text, if it may be one.
pub(super) fn id(text: &[u8]) -> Option<[u8; ID]> {
    let rest = text.strip_prefix(PREFIX.as_bytes())?;
    if text.len() != LENGTH || rest[ID] != b'_' {
        return None;
    }
    rest[..ID].try_into().ok()
}

/// Whether a key was neither cut nor mistyped; says nothing of whether it is known.
pub fn is_whole(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).ok();
    text.filter(|text| id(text.as_bytes()).is_some() && text.is_char_boundary(LENGTH - CHECK))
        .map(|text| text.split_at(LENGTH - CHECK))
        .is_some_and(|(before, told)| check(before) == told)
}

/// What is kept of a key: lower-case hexadecimal SHA-256.
pub(super) fn hash(text: &[u8]) -> String {
    hex(&Sha256::digest(text))
}

/// A hash as it stands in the file.
pub(super) fn unhash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_key_is_whole_and_says_its_id() {
        let (key, name) = new();
        assert_eq!(
            id(key.as_bytes()).map(|id| id.to_vec()),
            Some(name.into_bytes())
        );
        assert!(is_whole(key.as_bytes()) && new().0 != key);
        assert_eq!(unhash(&hash(b"x")), Some(Sha256::digest(b"x").into()));
    }

    proptest! {
        #[test]
        fn a_key_with_another_character_is_not_whole(at in 0..LENGTH, other in "[a-z0-9_]") {
            let (key, _) = new();
            prop_assume!(key[at..=at] != other);
            let wrong = format!("{}{other}{}", &key[..at], &key[at + 1..]);
            prop_assert!(!is_whole(wrong.as_bytes()));
        }

        #[test]
        fn any_text_can_be_asked(text in any::<Vec<u8>>(), tail in "\\PC{0,70}") {
            is_whole(&text);
            is_whole(format!("shunt_{tail}").as_bytes());
            unhash(&tail);
        }
    }
}
