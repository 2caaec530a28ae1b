//! The one door between the hot path and the cold one: running attempts change owner here, and
//! what the cold side keeps is asked for.
//!
//! Promises: what was handed over is owned on this side before the caller's task can vanish; the
//! caller hears of success only when the job is durable. Never awaited while something is passed
//! through: a full door refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::callback::AddressGuard;
use super::job::{Job, JobId, Owner, StoredRequest};
use super::recall::{CallKey, Kept, Recalled};
use super::responses::AtProvider;
use super::store::StoreError;
use crate::upstream::attempts::Attempts;

/// The public page of the keys that callbacks are signed with.
pub const KEYS: &str = super::callback::keys::PATH;

/// A call on its way to become a job.
pub struct Handover {
    /// The job, `Running` if attempts run, else `Queued`.
    pub job: Job,
    /// What is sent again if need be.
    pub request: StoredRequest,
    /// What runs.
    pub attempts: Attempts,
    /// Its `Idempotency-Key`, if it has one.
    pub key: Option<CallKey>,
    /// Cancelled with its scope, if it has one.
    pub scope: Option<CancellationToken>,
}

/// Who was first: the store, so that the caller hears of its job, or the caller's patience, so
/// that it is refused. Never both.
#[derive(Clone)]
pub struct Decision {
    taken: Arc<AtomicBool>,
    refused: CancellationToken,
    /// When the caller's patience ends.
    until: Instant,
}

impl Decision {
    fn within(patience: Duration) -> Self {
        Self {
            taken: Arc::default(),
            refused: CancellationToken::new(),
            until: Instant::now() + patience,
        }
    }

    /// Whether nobody was first before.
    pub fn is_first(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Resolves once the caller was refused; its patience ends also where it left before.
    pub async fn refused(&self) {
        let over = timeout_at(self.until, self.refused.cancelled()).await;
        if over.is_err() && !self.is_first() {
            self.refused.cancelled().await;
        }
    }
}

/// Told what came of an errand.
pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the hot side asks of the cold one.
pub enum Errand {
    /// Make a call a job.
    TakeOver(Box<Handover>, Decision, Reply<Option<Box<Job>>>),
    /// Look for what is kept under a key; wait so long for a job.
    Recall(CallKey, Duration, Reply<Recalled>),
    /// Tell the provider's name of a response.
    AtProvider(Owner, JobId, Reply<AtProvider>),
    /// Keep an answer under its key.
    Keep(Box<Kept>, Reply<()>),
    /// List a scope's unfinished jobs.
    JobsOf(Owner, String, Reply<Vec<Job>>),
    /// Cancel a scope's jobs.
    CancelAll(Owner, String, Reply<u64>),
}

/// The hot side of the door.
#[derive(Clone)]
pub struct Door {
    queue: mpsc::Sender<Errand>,
    guard: Option<Arc<AddressGuard>>,
}

/// Errands that may wait at the door.
const QUEUE: usize = 4_096;

impl Door {
    /// A door and its cold side. `guard` judges callback addresses; `None`: there is nothing to sign
    /// with, so no callbacks.
    pub fn new(guard: Option<Arc<AddressGuard>>) -> (Self, mpsc::Receiver<Errand>) {
        let (queue, intake) = mpsc::channel(QUEUE);
        (Self { queue, guard }, intake)
    }

    /// Whether a result may be sent there.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn check_callback(&self, url: &str) -> Result<(), String> {
        let Some(guard) = &self.guard else {
            return Err(
                "this gateway has neither callbacks.secret nor callbacks.signing_key, so it sends \
                 no callbacks; poll the job, or configure one"
                    .into(),
            );
        };
        guard
            .check_url(url)
            .map(|_| ())
            .map_err(|why| format!("the callback address is refused: {why}"))
    }

    /// Hands a call over. Before the first await the attempts belong to the cold side; where the
    /// door is full they are cancelled. A store that is silent for longer than `patience` is as good
    /// as none: the caller is refused, and what it is refused for is undone if it is written later,
    /// but for a call with a key: its job runs, and the key leads to it. Gives the job that the key led to
    /// before, where that is not finished: there is no other then.
    pub fn hand_over(
        &self,
        handover: Handover,
        patience: Duration,
    ) -> impl Future<Output = Result<Option<Box<Job>>, StoreError>> + use<> {
        let decision = Decision::within(patience);
        let ours = decision.clone();
        let told = self.send(|reply| Errand::TakeOver(Box::new(handover), decision, reply));
        async move {
            tokio::pin!(told);
            match tokio::time::timeout(patience, &mut told).await {
                Ok(kept) => kept,
                Err(_) if ours.is_first() => {
                    ours.refused.cancel();
                    Err(StoreError::Silent)
                }
                Err(_) => told.await,
            }
        }
    }

    /// What is kept under a key; a job that is not finished is waited for so long.
    pub async fn recall(&self, key: CallKey, wait: Duration) -> Result<Recalled, StoreError> {
        self.send(|reply| Errand::Recall(key, wait, reply)).await
    }

    /// Keeps an answer under its key; durable when it resolves.
    pub fn keep(&self, kept: Kept) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.send(|reply| Errand::Keep(Box::new(kept), reply))
    }

    /// By which name the provider knows a response that this caller knows by its job's.
    pub async fn at_provider(&self, owner: Owner, id: JobId) -> Result<AtProvider, StoreError> {
        self.send(|reply| Errand::AtProvider(owner, id, reply))
            .await
    }

    /// A scope's unfinished jobs.
    pub async fn jobs_of(&self, owner: Owner, scope: &str) -> Result<Vec<Job>, StoreError> {
        self.send(|reply| Errand::JobsOf(owner, scope.to_owned(), reply))
            .await
    }

    /// Cancels a scope's jobs; gives how many.
    pub async fn cancel_all(&self, owner: Owner, scope: &str) -> Result<u64, StoreError> {
        self.send(|reply| Errand::CancelAll(owner, scope.to_owned(), reply))
            .await
    }

    /// Passes an errand through at once; only its end is awaited.
    fn send<T, F: FnOnce(Reply<T>) -> Errand>(
        &self,
        errand: F,
    ) -> impl Future<Output = Result<T, StoreError>> + use<T, F> {
        let (reply, told) = oneshot::channel();
        let passed = self.queue.try_send(errand(reply)).is_ok();
        async move {
            let unavailable = |why: &str| Err(StoreError::Unavailable(why.to_owned()));
            if !passed {
                return unavailable("too many calls wait for the job store");
            }
            told.await
                .unwrap_or_else(|_| unavailable("the gateway is stopping"))
        }
    }
}
