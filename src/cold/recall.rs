//! What became of a call under its `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
//!
//! Promises: a key names one call of one caller; an answer that is kept is given again without a
//! call to a provider, also after a restart; what failed, was cancelled or expired frees its key.
//! Never keeps a key itself, only its hash.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::job::{Job, JobId, Owner, Status, StoredAnswer, UnixMillis};
use super::runner::Runner;
use super::runner::reading::holding;
use super::store::StoreError;

/// A call that is known again: by its key, or by what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallKey {
    /// SHA-256 of its caller and its key.
    pub name: [u8; 32],
    /// SHA-256 of its method, route, path and body.
    pub print: [u8; 32],
}

impl CallKey {
    /// The fingerprint of what a call asks.
    pub fn print(method: &str, route: &str, path: &str, body: &[u8]) -> [u8; 32] {
        hash(&[method.as_bytes(), route.as_bytes(), path.as_bytes(), body])
    }

    /// A call of this caller under a key.
    pub fn named(owner: Owner, key: &str, print: [u8; 32]) -> Self {
        let name = hash(&[b"key", &owner.0, key.as_bytes()]);
        Self { name, print }
    }

    /// A call of this caller that is known by what it asks alone.
    pub fn unnamed(owner: Owner, print: [u8; 32]) -> Self {
        let name = hash(&[b"call", &owner.0, &print]);
        Self { name, print }
    }
}

/// SHA-256 of parts, each with its length, so that no two lists of parts look alike.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// What a store keeps under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which call.
    pub key: CallKey,
    /// When it was kept.
    pub at: UnixMillis,
    /// What became of it.
    pub what: Became,
}

impl Kept {
    /// The answer, if it was answered.
    pub fn answer(&self) -> Option<&StoredAnswer> {
        match &self.what {
            Became::Answer(answer) => Some(answer),
            Became::Job(_) => None,
        }
    }

    /// The job, if it became one.
    pub fn job(&self) -> Option<&JobId> {
        match &self.what {
            Became::Job(id) => Some(id),
            Became::Answer(_) => None,
        }
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// It was answered.
    Answer(StoredAnswer),
    /// It is a job.
    Job(JobId),
}

/// What a caller meets that sends a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// The key is free.
    Nothing,
    /// The key was used for another call.
    Other,
    /// Its answer.
    Answer(StoredAnswer),
    /// It is a job that is not finished.
    Job(Box<Job>),
}

impl Runner {
    /// What is kept under a key; a job that is not finished is waited for so long.
    pub async fn recall(&self, key: CallKey, wait: Duration) -> Result<Recalled, StoreError> {
        let id = match self.store().kept(key.name).await? {
            None => return Ok(Recalled::Nothing),
            Some(kept) if self.is_past(kept.at) => {
                // Or it would stand in the way of what the call becomes now. The store may be read only.
                let _ = self.store().forget(key.name, self.past()).await;
                return Ok(Recalled::Nothing);
            }
            Some(kept) if kept.key.print != key.print => return Ok(Recalled::Other),
            Some(kept) => match kept.what {
                Became::Answer(answer) => return Ok(Recalled::Answer(answer)),
                Became::Job(id) => id,
            },
        };
        match self.awaited(&id, wait).await? {
            Some(job) if job.status == Status::Succeeded => {
                let answer = self.read_answer(&id).await?;
                Ok(answer.map_or(Recalled::Nothing, |(mut answer, held)| {
                    answer.body = holding(answer.body, held);
                    Recalled::Answer(answer)
                }))
            }
            Some(job) if !job.status.is_final() => Ok(Recalled::Job(Box::new(job))),
            _ => Ok(Recalled::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_callers_own_and_parts_do_not_run_together() {
        let print = CallKey::print("POST", "r", "/a", b"{}");
        assert_ne!(print, CallKey::print("POST", "r", "/a{", b"}"));
        let (one, other) = (Owner([1; 32]), Owner([2; 32]));
        let named = |owner| CallKey::named(owner, "k", print);
        assert_ne!(named(one).name, named(other).name);
        assert_ne!(named(one).name, CallKey::unnamed(one, print).name);
    }
}
