//! The one door between the hot path and the cold one: running attempts change owner here.
//!
//! Promises: what was handed over is owned on this side before the caller's task can vanish; the
//! caller hears of success only when the job is durable.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::callback::AddressGuard;
use super::job::{Job, StoredRequest};
use super::store::StoreError;
use crate::upstream::attempts::Attempts;

/// A call on its way to become a job.
pub struct Handover {
    /// The job, `Running` if attempts run, else `Queued`.
    pub job: Job,
    /// What is sent again if need be.
    pub request: StoredRequest,
    /// What runs.
    pub attempts: Attempts,
    /// Told once the job is durable, or is not.
    pub reply: oneshot::Sender<Result<(), StoreError>>,
}

/// The hot side of the door.
#[derive(Clone)]
pub struct Door {
    queue: mpsc::Sender<Handover>,
    guard: Option<Arc<AddressGuard>>,
}

/// Calls that may wait at the door.
const QUEUE: usize = 4_096;

impl Door {
    /// A door and its cold side. `guard` judges callback addresses; `None`: there is no secret,
    /// so no callbacks.
    pub fn new(guard: Option<Arc<AddressGuard>>) -> (Self, mpsc::Receiver<Handover>) {
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
                "this gateway has no callbacks.secret, so it sends no callbacks; poll the job, \
                 or configure a secret"
                    .into(),
            );
        };
        guard
            .check_url(url)
            .map(|_| ())
            .map_err(|why| format!("the callback address is refused: {why}"))
    }

    /// Hands a call over. Nothing is awaited: after this the attempts belong to the cold side.
    ///
    /// # Errors
    /// Gives back nothing when the door is full: the attempts are cancelled.
    pub fn hand_over(
        &self,
        job: Job,
        request: StoredRequest,
        attempts: Attempts,
    ) -> Option<oneshot::Receiver<Result<(), StoreError>>> {
        let (reply, told) = oneshot::channel();
        let handover = Handover {
            job,
            request,
            attempts,
            reply,
        };
        self.queue.try_send(handover).ok().map(|()| told)
    }
}
