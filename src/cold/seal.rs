//! Seals what a store keeps: XChaCha20-Poly1305 (RFC 8439, extended nonce) under one of several
//! keys.
//!
//! Promises: what was changed, or sealed for another job or another purpose, does not open; what is
//! sealed names its key, so that keys rotate: the first seals, each opens its own. Never shows a key.

mod keys;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{Tag, XNonce};

use self::keys::Key;

const NONCE: usize = 24;
const TAG: usize = 16;

/// What sealed bytes begin with, and the version of their form: a key's name with its length, a
/// nonce, the text, a tag.
const MARK: &[u8] = b"\0shunt-seal-1\0";
/// What sealed text begins with: the rest is base64 of the same form.
const TEXT: &str = "shunt-seal-1:";

/// Bytes that sealing adds at most, to bytes.
pub const OVERHEAD: usize = MARK.len() + 1 + keys::LONGEST + NONCE + TAG;

/// What something is kept for: it opens for nothing else. These words are part of every seal: one
/// that is renamed opens nothing that was sealed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request's path and query.
    Path,
    /// A request's header lines.
    RequestHeaders,
    /// A request's body.
    RequestBody,
    /// An answer's header lines.
    AnswerHeaders,
    /// An answer's body.
    AnswerBody,
    /// What a response tells of its request.
    Metadata,
    /// Where a callback goes.
    CallbackUrl,
    /// Why a callback failed.
    CallbackError,
    /// Why a job failed.
    Error,
    /// What went wrong with an attempt.
    History,
    /// The header lines of what is kept under a key.
    KeptHeaders,
    /// The body of what is kept under a key.
    KeptBody,
}

/// What something is kept for, and whose it is: a job's name, or a key's.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a>(pub Purpose, pub &'a [u8]);

impl Place<'_> {
    /// The associated data.
    fn bytes(self) -> Vec<u8> {
        let mut bytes = format!("shunt-seal-1/{:?}/", self.0).into_bytes();
        bytes.extend_from_slice(self.1);
        bytes
    }
}

/// Why something does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// Its key is not here.
    #[error(
        "it was sealed with the key `{0}`, which this gateway does not have; add that key after \
         the first in the variable that cold.seal_keys_env names, or put its key file back"
    )]
    NoKey(String),
    /// It is not what was sealed here.
    #[error("its seal is broken: it was changed, or it belongs to another job")]
    Broken,
}

/// Seals and opens.
pub struct Sealer {
    /// The first seals.
    keys: Vec<Key>,
}

impl Sealer {
    /// Seals bytes for a place.
    pub fn seal(&self, place: Place, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        sealed.extend_from_slice(MARK);
        self.append(place, plain, &mut sealed);
        sealed
    }

    /// Seals bytes for a place, as text of one line.
    pub fn seal_text(&self, place: Place, plain: &[u8]) -> String {
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        self.append(place, plain, &mut sealed);
        let mut text = TEXT.to_owned();
        STANDARD_NO_PAD.encode_string(&sealed, &mut text);
        text
    }

    fn append(&self, place: Place, plain: &[u8], to: &mut Vec<u8>) {
        let key = self.keys.first().expect("a sealer has a key");
        to.push(u8::try_from(key.name.len()).expect("names of keys are short"));
        to.extend_from_slice(key.name.as_bytes());
        let nonce: [u8; NONCE] = rand::random();
        to.extend_from_slice(&nonce);
        let from = to.len();
        to.extend_from_slice(plain);
        let (nonce, place) = (XNonce::from(nonce), place.bytes());
        let sealed = key
            .cipher
            .encrypt_inout_detached(&nonce, &place, (&mut to[from..]).into());
        let tag = sealed.expect("what a store keeps is below the cipher's limit of 256 GiB");
        to.extend_from_slice(&tag);
    }

    /// Opens what was sealed for this place; `None`: it is not sealed.
    ///
    /// # Errors
    /// Its key is not here, or it is not what was sealed for this place.
    pub fn open(&self, place: Place, kept: &[u8]) -> Result<Option<Vec<u8>>, Unopened> {
        let sealed = kept.strip_prefix(MARK);
        sealed.map(|sealed| self.opened(place, sealed)).transpose()
    }

    /// Opens text that was sealed for this place; `None`: it is not sealed.
    ///
    /// # Errors
    /// As for bytes.
    pub fn open_text(&self, place: Place, kept: &[u8]) -> Result<Option<Vec<u8>>, Unopened> {
        let Some(sealed) = kept.strip_prefix(TEXT.as_bytes()) else {
            return Ok(None);
        };
        let sealed = STANDARD_NO_PAD.decode(sealed);
        let sealed = sealed.map_err(|_| Unopened::Broken)?;
        self.opened(place, &sealed).map(Some)
    }

    fn opened(&self, place: Place, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (length, rest) = sealed.split_first().ok_or(Unopened::Broken)?;
        let (name, sealed) = rest
            .split_at_checked(usize::from(*length))
            .ok_or(Unopened::Broken)?;
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| keys::is_name(name));
        let name = name.ok_or(Unopened::Broken)?;
        let key = self.keys.iter().find(|key| key.name == name);
        let key = key.ok_or_else(|| Unopened::NoKey(name.to_owned()))?;
        decrypt(key, &place.bytes(), sealed).ok_or(Unopened::Broken)
    }

    /// Opens what a gateway sealed that knew one key only, for this job: a nonce, the text, a tag.
    pub fn open_old(&self, job: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.keys.iter().find_map(|key| decrypt(key, job, sealed))
    }
}

/// Whether something would be taken for sealed.
pub fn looks_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MARK)
}

/// Whether text would be taken for sealed.
pub fn text_looks_sealed(text: &[u8]) -> bool {
    text.starts_with(TEXT.as_bytes())
}

fn decrypt(key: &Key, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
    let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
    let mut plain = sealed.to_vec();
    let done = key
        .cipher
        .decrypt_inout_detached(&nonce, place, plain.as_mut_slice().into(), &tag);
    done.ok().map(|()| plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(keys: &[(&str, u8)]) -> Sealer {
        let text = keys.iter().map(|(name, byte)| {
            let key = base64::engine::general_purpose::STANDARD.encode([*byte; 32]);
            format!("{name}:{key}")
        });
        let text: Vec<String> = text.collect();
        Sealer::parse("KEYS", &text.join(",")).unwrap()
    }

    #[test]
    fn what_an_old_key_sealed_opens_after_a_rotation_and_the_first_key_seals() {
        let place = Place(Purpose::RequestBody, b"job_1");
        let old = sealer(&[("k1", 1)]);
        let rotated = sealer(&[("k2", 2), ("k1", 1)]);
        let sealed = old.seal(place, b"secret");
        assert_eq!(rotated.open(place, &sealed).unwrap().unwrap(), b"secret");
        let new = rotated.seal(place, b"secret");
        assert_eq!(old.open(place, &new), Err(Unopened::NoKey("k2".into())));
        let text = rotated.seal_text(place, b"secret");
        assert_eq!(
            old.open_text(place, text.as_bytes()),
            Err(Unopened::NoKey("k2".into()))
        );
        // Another key under the same name is no key to it.
        let other = sealer(&[("k1", 9)]);
        assert_eq!(other.open(place, &sealed), Err(Unopened::Broken));
    }

    #[test]
    fn a_text_opens_only_for_its_job_and_its_purpose() {
        let one = sealer(&[("k", 1)]);
        let place = Place(Purpose::AnswerBody, b"job_1");
        let sealed = one.seal(place, b"secret");
        let text = one.seal_text(place, b"secret");
        for other in [
            Place(Purpose::AnswerBody, b"job_2"),
            Place(Purpose::RequestBody, b"job_1"),
        ] {
            assert_eq!(one.open(other, &sealed), Err(Unopened::Broken));
            assert_eq!(one.open_text(other, text.as_bytes()), Err(Unopened::Broken));
        }
        assert_eq!(one.open(place, b"in clear"), Ok(None));
        assert_eq!(one.open_text(place, b"in clear"), Ok(None));
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_whole_and_never_once_it_was_changed(
            plain in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(),
        ) {
            let one = sealer(&[("k", 1)]);
            let place = Place(Purpose::AnswerBody, b"job_1");
            let mut sealed = one.seal(place, &plain);
            prop_assert!(sealed.len() <= plain.len() + OVERHEAD);
            prop_assert_eq!(one.open(place, &sealed), Ok(Some(plain)));
            let at = at.index(sealed.len());
            sealed[at] ^= 1;
            prop_assert!(!matches!(one.open(place, &sealed), Ok(Some(_))));
            sealed[at] ^= 1;
            sealed.truncate(MARK.len() + at.min(sealed.len() - MARK.len() - 1));
            prop_assert!(!matches!(one.open(place, &sealed), Ok(Some(_))));
        }
    }
}
