//! How finished jobs are announced.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Period, SecretSource, Size};

/// One secret, or several while they rotate.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Secrets {
    /// One.
    One(SecretSource),
    /// Several: each signs.
    Many(Vec<SecretSource>),
}

impl Secrets {
    /// Each of them.
    pub fn all(&self) -> &[SecretSource] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

/// How finished jobs are announced.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Callbacks {
    /// `whsec_<base64>`; several for rotation. Absent, and no signing key: callers cannot ask for
    /// callbacks.
    pub secret: Option<Secrets>,
    /// `whsk_<base64>` of an ed25519 key, for `v1a` signatures that everybody can verify; several
    /// for rotation.
    pub signing_key: Option<Secrets>,
    /// Addresses besides public https ones; needed for http, private or loopback ones.
    pub allow: Vec<String>,
    /// Longest wait for a receiver's answer.
    pub timeout: Period,
    /// A larger answer is left out, with its address instead.
    pub inline_limit: Size,
    /// Waits before the second and each further delivery; after the last it is dead.
    pub schedule: Vec<Period>,
    /// Each wait is drawn within this share around its length.
    pub jitter: f64,
    /// Deliveries running at once.
    pub concurrency: usize,
    /// Of these, to one receiver: scheme, host and port.
    pub per_endpoint: usize,
    /// Failures in a row (no answer, 5xx, 429) after which a receiver is left alone; 0: never.
    pub rest_after: u32,
    /// The first such rest; it doubles with each further failure.
    pub rest: Period,
    /// The longest rest, and the longest `Retry-After` that stops all deliveries to a receiver.
    pub rest_max: Period,
}

impl Default for Callbacks {
    fn default() -> Self {
        const SCHEDULE: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        Self {
            secret: None,
            signing_key: None,
            allow: Vec::new(),
            timeout: Period::from_secs(15),
            inline_limit: Size(256 << 10),
            schedule: SCHEDULE.into_iter().map(Period::from_secs).collect(),
            jitter: 0.2,
            concurrency: 64,
            per_endpoint: 8,
            rest_after: 5,
            rest: Period::from_secs(5),
            rest_max: Period::from_secs(10 * 60),
        }
    }
}
