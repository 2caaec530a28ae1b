//! What a job is: its states, its request, its answer, and the JSON that callers see.
//!
//! Promises: the JSON has the names and forms of section 5 of the contract. Pure data: no I/O.

mod moment;

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::background::Background;
use super::priority::Priority;
use crate::upstream::credentials::CREDENTIALS;
use crate::upstream::media::is_encoded;

pub use self::moment::UnixMillis;
#[cfg(test)]
pub use self::moment::virtual_clock;

/// A job's name: `job_` and 128 random bits in hexadecimal. Unguessable, so that where callers
/// carry no credentials it is the right to the job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct JobId(String);

impl JobId {
    /// A new one.
    pub fn random() -> Self {
        Self(format!("job_{:032x}", rand::random::<u128>()))
    }

    /// Reads one from a path or a store; `None` if it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("job_")?;
        let lower = hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (hex.len() == 32 && lower).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Gives an enum its lower-case name in JSON, in the store and in labels, and reads it back.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Reads a name.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }
    };
}

named! {
    /// Where a job stands.
    Status {
        /// Waits for a runner.
        Queued = "queued",
        /// A provider works on it.
        Running = "running",
        /// Has an answer.
        Succeeded = "succeeded",
        /// Will get none.
        Failed = "failed",
        /// Its caller or an operator stopped it.
        Cancelled = "cancelled",
        /// Grew older than its route's `cold.deadline`.
        Expired = "expired",
    }
}

impl Status {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

named! {
    /// Why a call became a job.
    Reason {
        /// Its caller wanted it so.
        Requested = "requested",
        /// It did not make its budget.
        BudgetExceeded = "budget_exceeded",
        /// It would not have made it.
        Predicted = "predicted",
        /// The gateway or the target was full.
        Overload = "overload",
        /// No target was healthy.
        ProviderDown = "provider_down",
    }
}

named! {
    /// Where a callback stands.
    CallbackStatus {
        /// Not delivered yet.
        Pending = "pending",
        /// A receiver acknowledged it.
        Delivered = "delivered",
        /// Given up: schedule used up, 410, or a forbidden address.
        Dead = "dead",
    }
}

/// Who made a call: SHA-256 of its credentials; all zero for callers without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub [u8; 32]);

impl Owner {
    /// Callers that carry no credentials.
    pub const ANYONE: Self = Self([0; 32]);

    /// Whose call this is: a hash of its `Authorization` or `x-api-key`, or of what Azure's and
    /// Google's clients send in their place.
    pub fn of(headers: &http::HeaderMap) -> Self {
        match CREDENTIALS.iter().find_map(|name| headers.get(name)) {
            Some(key) => Self(Sha256::digest(key.as_bytes()).into()),
            None => Self::ANYONE,
        }
    }

    /// Its first 64 bits, which are as good as unique among the callers of one gateway.
    pub fn number(self) -> u64 {
        let first = self.0.first_chunk();
        u64::from_be_bytes(*first.expect("it has 256 bits"))
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobError {
    /// A stable word: `provider_error`, `expired`, `answer_too_large`, `cancelled`, ….
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl JobError {
    /// An error with this word and this sentence.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }
}

/// A new `webhook-id`: the time and 80 random bits (as RFC 9562's version 7), so that stores add it
/// beside those of the same time.
pub fn webhook_id() -> String {
    let random = rand::random::<u128>() >> 48;
    format!("msg_{:012x}{random:020x}", UnixMillis::now().0)
}

/// A job's callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Callback {
    /// Where it goes.
    pub url: String,
    /// Where it stands.
    pub status: CallbackStatus,
    /// Deliveries tried.
    pub deliveries: u32,
    /// Why the last delivery failed, or why the address is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A job, without its request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub owner: Owner,
    /// Where it stands.
    pub status: Status,
    /// Its route.
    pub route: String,
    /// Why it is a job.
    pub reason: Reason,
    /// The budget that its call had, milliseconds.
    pub budget_ms: u64,
    /// The age at which its call became a job, milliseconds.
    pub elapsed_ms: u64,
    /// When its call arrived.
    pub created_at: UnixMillis,
    /// When it expires if it is not finished.
    pub expires_at: UnixMillis,
    /// When it reached its final state.
    pub finished_at: Option<UnixMillis>,
    /// Calls made to providers for it, but for those that were refused for their rate (429) or found
    /// every target away.
    pub attempts: u32,
    /// How often it was taken to be run: a run with an older number is refused.
    pub fence: u64,
    /// Why it failed.
    pub error: Option<JobError>,
    /// Who is told.
    pub callback: Option<Callback>,
    /// The pipeline that its call belongs to.
    pub scope: Option<String>,
    /// What its response tells of its request, where it has OpenAI's background shape.
    pub background: Option<Background>,
    /// How urgent it is among its caller's.
    pub priority: Priority,
}

impl Job {
    /// The object of section 5 of the contract.
    pub fn to_json(&self) -> serde_json::Value {
        let id = self.id.as_str();
        let mut object = serde_json::json!({
            "id": id,
            "object": "job",
            "status": self.status,
            "route": self.route,
            "reason": self.reason,
            "priority": self.priority,
            "budget_ms": self.budget_ms,
            "elapsed_ms": self.elapsed_ms,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "attempts": self.attempts,
            "links": {
                "self": format!("/jobs/{id}"),
                "result": format!("/jobs/{id}/result"),
                "events": format!("/jobs/{id}/events"),
            },
        });
        if let Some(fields) = object.as_object_mut() {
            let mut put = |name: &str, value: Option<serde_json::Value>| {
                if let Some(value) = value {
                    fields.insert(name.to_owned(), value);
                }
            };
            put(
                "finished_at",
                self.finished_at.map(|at| serde_json::json!(at)),
            );
            put(
                "error",
                self.error.as_ref().map(|error| serde_json::json!(error)),
            );
            put(
                "scope",
                self.scope.as_ref().map(|scope| serde_json::json!(scope)),
            );
            put(
                "callback",
                self.callback
                    .as_ref()
                    .map(|callback| serde_json::json!(callback)),
            );
        }
        object
    }
}

/// Header lines as they came: name and value.
pub type HeaderLines = Vec<(String, Vec<u8>)>;

/// A header map as lines, in its order.
pub fn lines(headers: &http::HeaderMap) -> HeaderLines {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// Lines as a header map; lines that no header can carry are left out.
pub fn header_map(lines: &HeaderLines) -> http::HeaderMap {
    let mut headers = http::HeaderMap::with_capacity(lines.len());
    for (name, value) in lines {
        let name = http::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// A call as a job keeps it, enough to send it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRequest {
    /// The method.
    pub method: String,
    /// Path and query, as the route's target gets them (before the target's own prefix).
    pub path_and_query: String,
    /// Header lines for the provider. They can hold credentials: stores seal them.
    pub headers: HeaderLines,
    /// The body.
    pub body: Bytes,
}

/// A provider's answer, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The status code.
    pub status: u16,
    /// End-to-end header lines.
    pub headers: HeaderLines,
    /// The body.
    pub body: Bytes,
    /// When a stream's bytes came, as `timing` writes it; empty where that is not known.
    pub timing: String,
}

impl StoredAnswer {
    /// Whether its bytes stand for others.
    pub fn is_compressed(&self) -> bool {
        is_encoded(&header_map(&self.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_is_read_back_and_nothing_else_is() {
        let id = JobId::random();
        assert_eq!(JobId::parse(id.as_str()), Some(id));
        for wrong in [
            "",
            "job_",
            "job_../../etc",
            "msg_00000000000000000000000000000000",
        ] {
            assert_eq!(JobId::parse(wrong), None, "{wrong}");
        }
    }
}
