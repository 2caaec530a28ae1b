//! Standard Webhooks 1.0.0 signatures of `id.timestamp.body`: `v1,<base64 hmac-sha256>` with a
//! secret that both sides know, `v1a,<base64 ed25519>` with a key that only the gateway has.
//!
//! Promises: never shows a secret or a private key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// Length of an ed25519 seed; a private key is the seed, or the seed and its public key.
const SEED: usize = 32;

/// Signs with every active secret and key, so that receivers can rotate theirs.
pub struct Signer {
    secrets: Vec<Vec<u8>>,
    keys: Vec<Ed25519KeyPair>,
}

/// What receivers verify `v1a` with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The first 16 hexadecimal digits of the key's SHA-256.
    pub id: String,
    /// `whpk_` and base64.
    pub key: String,
}

impl Signer {
    /// A signer that makes `v1` only.
    ///
    /// # Errors
    /// A sentence that does not repeat the secret: it is not `whsec_` and base64 of 24 to 64 bytes.
    pub fn new(secrets: &[Secret]) -> Result<Self, String> {
        let wrong = || {
            "a callback secret must be `whsec_` and the base64 of 24 to 64 random bytes; make one \
             with: printf 'whsec_%s\\n' \"$(head -c 32 /dev/urandom | base64)\""
                .to_owned()
        };
        let secret = |secret: &Secret| {
            let bytes = decoded(secret, "whsec_").ok_or_else(wrong)?;
            (24..=64)
                .contains(&bytes.len())
                .then_some(bytes)
                .ok_or_else(wrong)
        };
        Ok(Self {
            secrets: secrets.iter().map(secret).collect::<Result<_, _>>()?,
            keys: Vec::new(),
        })
    }

    /// The same, with a `v1a` signature of each of these keys beside.
    ///
    /// # Errors
    /// A sentence that does not repeat the key: it is not `whsk_` and base64 of an ed25519 key.
    pub fn with_keys(self, keys: &[Secret]) -> Result<Self, String> {
        let wrong = || {
            "a signing key must be `whsk_` and the base64 of an ed25519 seed (32 random bytes), or \
             of the seed and its public key; make one with: \
             printf 'whsk_%s\\n' \"$(head -c 32 /dev/urandom | base64)\""
                .to_owned()
        };
        let key = |secret: &Secret| {
            let bytes = decoded(secret, "whsk_").ok_or_else(wrong)?;
            let (seed, public) = bytes.split_at_checked(SEED).ok_or_else(wrong)?;
            let pair = if public.is_empty() {
                Ed25519KeyPair::from_seed_unchecked(seed)
            } else {
                Ed25519KeyPair::from_seed_and_public_key(seed, public)
            };
            pair.map_err(|_| wrong())
        };
        let keys = keys.iter().map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys, ..self })
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut signed = format!("{id}.{timestamp}.").into_bytes();
        signed.extend_from_slice(body);
        let hmac = |secret: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any key");
            mac.update(&signed);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        let ed25519 = |key: &Ed25519KeyPair| format!("v1a,{}", STANDARD.encode(key.sign(&signed)));
        let secrets = self.secrets.iter().map(hmac);
        let all: Vec<String> = secrets.chain(self.keys.iter().map(ed25519)).collect();
        all.join(" ")
    }

    /// The public keys, for whoever asks.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        let one = |key: &Ed25519KeyPair| {
            let bytes = key.public_key().as_ref();
            let digest = Sha256::digest(bytes);
            let first = *digest.first_chunk().expect("a digest has 32 bytes");
            PublicKey {
                id: format!("{:016x}", u64::from_be_bytes(first)),
                key: format!("whpk_{}", STANDARD.encode(bytes)),
            }
        };
        self.keys.iter().map(one).collect()
    }
}

fn decoded(secret: &Secret, prefix: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret.expose().strip_prefix(prefix)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    fn secret(bytes: &[u8]) -> Secret {
        Secret::new(format!("whsec_{}", STANDARD.encode(bytes)))
    }

    fn key(text: &str) -> Secret {
        Secret::new(format!("whsk_{text}"))
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

        #[test]
        fn a_v1a_signature_is_verified_with_the_public_key_that_is_told(
            seed in prop::array::uniform32(any::<u8>()),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let signer = Signer::new(&[]).unwrap();
            let signer = signer.with_keys(&[key(&STANDARD.encode(seed))]).unwrap();
            let signature = signer.sign("msg_1", 7, &body);
            let signature = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
            let public = signer.public_keys().remove(0).key;
            let public = STANDARD.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
            let signed = [b"msg_1.7.", &body[..]].concat();
            let public = UnparsedPublicKey::new(&ED25519, public);
            prop_assert!(public.verify(&signed, &signature).is_ok());
            prop_assert!(public.verify(&body, &signature).is_err());
        }
    }

    /// The vector of Svix's server, the scheme's reference.
    #[test]
    fn a_v1a_signature_is_the_one_that_the_reference_makes() {
        let seed = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
        let both = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
        for text in [seed, both] {
            let signer = Signer::new(&[]).unwrap().with_keys(&[key(text)]).unwrap();
            assert_eq!(
                signer.sign(
                    "msg_p5jXN8AQM9LWM0D4loKWxJek",
                    1_614_265_330,
                    b"{\"test\": 2432232314}"
                ),
                "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+\
                 m7TBAg=="
            );
            assert_eq!(
                signer.public_keys()[0].key,
                "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
            );
        }
    }

    #[test]
    fn each_active_secret_and_key_signs() {
        let signer = Signer::new(&[secret(&[1; 32]), secret(&[2; 32])]).unwrap();
        let keys = [[3; 32], [4; 32]].map(|seed| key(&STANDARD.encode(seed)));
        let signer = signer.with_keys(&keys).unwrap();
        let all = signer.sign("msg_1", 1, b"{}");
        let kinds: Vec<&str> = all
            .split(' ')
            .filter_map(|one| one.split(',').next())
            .collect();
        assert_eq!(kinds, ["v1", "v1", "v1a", "v1a"]);
        assert_ne!(signer.public_keys()[0].id, signer.public_keys()[1].id);
    }

    #[test]
    fn a_wrong_secret_is_refused_and_not_repeated() {
        for text in ["whsec_c2hvcnQ=", "plain-secret", "whsec_%%%"] {
            let why = Signer::new(&[Secret::new(text.into())]).err().unwrap();
            assert!(!why.contains(text), "{why}");
        }
    }

    #[test]
    fn a_wrong_key_is_refused_and_not_repeated() {
        let other = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlaaaaaaaaaaAJ6p9lMicMFs6Kvg==";
        for text in [other, "c2hvcnQ=", "%%%", ""] {
            let signer = Signer::new(&[]).unwrap();
            let why = signer.with_keys(&[key(text)]).err().unwrap();
            assert!(text.is_empty() || !why.contains(text), "{why}");
        }
        let signer = Signer::new(&[]).unwrap();
        assert!(signer.with_keys(&[secret(&[1; 32])]).is_err());
    }
}
