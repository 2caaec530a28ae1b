//! Standard Webhooks 1.0.0 signatures: `v1,<base64 hmac-sha256>` of `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::Secret;

/// Signs with every active secret, so that receivers can rotate theirs.
pub struct Signer {
    keys: Vec<Vec<u8>>,
}

impl Signer {
    /// A signer.
    ///
    /// # Errors
    /// A sentence that does not repeat the secret: it is not `whsec_` and base64 of 24 to 64 bytes.
    pub fn new(secrets: &[Secret]) -> Result<Self, String> {
        let wrong = || {
            "a callback secret must be `whsec_` and the base64 of 24 to 64 random bytes; make one \
             with: printf 'whsec_%s\\n' \"$(head -c 32 /dev/urandom | base64)\""
                .to_owned()
        };
        let key = |secret: &Secret| {
            let text = secret.expose().strip_prefix("whsec_").ok_or_else(wrong)?;
            let key = STANDARD.decode(text).map_err(|_| wrong())?;
            (24..=64)
                .contains(&key.len())
                .then_some(key)
                .ok_or_else(wrong)
        };
        Ok(Self {
            keys: secrets.iter().map(key).collect::<Result<_, _>>()?,
        })
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let one = |key: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(bytes: &[u8]) -> Secret {
        Secret::new(format!("whsec_{}", STANDARD.encode(bytes)))
    }

    proptest! {
        #[test]
        fn a_signature_is_the_one_that_the_reference_makes(
            key in prop::collection::vec(any::<u8>(), 24..=64),
            body in "\\PC{0,200}",
        ) {
            let secret = secret(&key);
            let oracle = standardwebhooks::Webhook::new(secret.expose()).unwrap();
            let signer = Signer::new(&[secret]).unwrap();
            let at = 1_795_514_400;
            prop_assert_eq!(
                signer.sign("msg_1", at, body.as_bytes()),
                oracle.sign("msg_1", at, body.as_bytes()).unwrap()
            );
        }
    }

    #[test]
    fn each_active_secret_signs() {
        let signer = Signer::new(&[secret(&[1; 32]), secret(&[2; 32])]).unwrap();
        assert_eq!(signer.sign("msg_1", 1, b"{}").split(' ').count(), 2);
    }

    #[test]
    fn a_wrong_secret_is_refused_and_not_repeated() {
        for text in ["whsec_c2hvcnQ=", "plain-secret", "whsec_%%%"] {
            let why = Signer::new(&[Secret::new(text.into())]).err().unwrap();
            assert!(!why.contains(text), "{why}");
        }
    }
}
