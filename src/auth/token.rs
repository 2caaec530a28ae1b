//! The admin listener's token.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::SecretSource;

/// Fewest characters: 128 bits in hexadecimal.
const LEAST: usize = 32;

/// What operators send; only its hash is in memory.
pub struct Token([u8; 32]);

impl Token {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence that never holds the token.
    pub fn read(source: &SecretSource) -> Result<Self, String> {
        let secret = source.read()?;
        if secret.expose().len() < LEAST {
            return Err(format!(
                "the token is shorter than {LEAST} characters and can be guessed; make one with \
                 `openssl rand -hex 32`"
            ));
        }
        Ok(Self(Sha256::digest(secret.expose().as_bytes()).into()))
    }

    /// Whether a request carries it: compares hashes, in constant time.
    pub fn is_in(&self, headers: &http::HeaderMap) -> bool {
        let sent = headers.get(http::header::AUTHORIZATION);
        let sent = sent.and_then(|value| super::table::bearer(value.as_bytes()));
        let hash = Sha256::digest(sent.unwrap_or_default());
        sent.is_some() && bool::from(self.0.ct_eq(&hash[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_only_itself() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = SecretSource {
            env: None,
            file: Some(file.path().into()),
        };
        std::fs::write(file.path(), "short-and-secret").unwrap();
        let why = Token::read(&source).err().unwrap();
        assert!(
            why.contains("can be guessed") && !why.contains("secret"),
            "{why}"
        );
        let text = "0123456789abcdef0123456789abcdef";
        std::fs::write(file.path(), text).unwrap();
        let token = Token::read(&source).unwrap();
        for (sent, right) in [
            (format!("Bearer {text}"), true),
            (format!("bearer {text}"), true),
            (format!("Bearer {text}0"), false),
            (text.to_owned(), false),
            ("Bearer ".to_owned(), false),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert("authorization", sent.parse().unwrap());
            assert_eq!(token.is_in(&headers), right, "{sent}");
        }
        assert!(!token.is_in(&http::HeaderMap::new()));
    }
}
