//! Seals what a store keeps of callers' credentials: XChaCha20-Poly1305 (RFC 8439, extended
//! nonce) under a key in a file that only this user can read.
//!
//! Promises: what was changed, or sealed for another job, does not open. Never writes the key
//! anywhere else.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use base64::Engine;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};

const KEY: usize = 32;
const NONCE: usize = 24;

/// Seals and opens.
pub struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// Reads the key file, or makes one with mode 0600.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut key = [0; KEY];
        match File::open(path) {
            Ok(mut file) => file.read_exact(&mut key)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                key = rand::random();
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let mut file = options.open(path)?;
                file.write_all(&key)?;
                file.sync_all()?;
            }
            Err(error) => return Err(error),
        }
        Ok(Self(XChaCha20Poly1305::new(&Key::from(key))))
    }

    /// Takes a key of 32 bytes in Base64.
    ///
    /// # Errors
    /// A sentence that shows nothing of it.
    pub fn with_key(text: &str) -> Result<Self, String> {
        let key = base64::engine::general_purpose::STANDARD.decode(text.trim());
        let key = key.ok().and_then(|key| <[u8; KEY]>::try_from(key).ok());
        let key = key.ok_or("is no key: 32 random bytes in Base64 (openssl rand -base64 32)")?;
        Ok(Self(XChaCha20Poly1305::new(&Key::from(key))))
    }

    /// Seals bytes for one place; `place` is not secret but must be the same when they are opened.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload {
            msg: plain,
            aad: place,
        };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.expect("a header block is far below the cipher's limit of 256 GiB");
        [&nonce[..], &sealed].concat()
    }

    /// Opens what was sealed for this place with this key.
    pub fn unseal(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        let payload = Payload {
            msg: sealed,
            aad: place,
        };
        self.0.decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_place_open_what_was_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let sealed = Sealer::open(&path).unwrap().seal(b"job_1", b"secret");
        let again = Sealer::open(&path).unwrap();
        assert_eq!(again.unseal(b"job_1", &sealed).unwrap(), b"secret");
        assert_eq!(again.unseal(b"job_2", &sealed), None);
        assert_eq!(again.unseal(b"job_1", b"short"), None);
        let other = Sealer::open(&folder.path().join("other")).unwrap();
        assert_eq!(other.unseal(b"job_1", &sealed), None);
    }
}
