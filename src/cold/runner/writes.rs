//! Writes what became of a job.
//!
//! Promises: a run writes under its fence, and until the store has taken it: an answer that was paid
//! for is not thrown away because the store was silent for a while. What cannot be written before the
//! process ends is given back with its lease.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::drive::Ended;
use super::pause::{self, Next};
use super::route::ended;
use super::{ColdRoute, Runner};
use crate::cold::door::Reply;
use crate::cold::job::{Job, JobError, JobId, UnixMillis};
use crate::cold::recall::Kept;
use crate::cold::runs::Stop;
use crate::cold::store::{By, Outcome, StoreError};

/// The first wait of a write that failed; doubles up to the last.
const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(2);

/// How long an answer is held that the store could not keep under its key.
const UNKEPT: Duration = Duration::from_mins(5);

/// How often it is tried at least: until it is kept, another gateway that asks does not know of it.
const SOON: Duration = Duration::from_millis(200);

/// What a run writes at its end.
pub(super) enum Write {
    /// The job's end.
    End(Outcome),
    /// It is tried again from then on.
    Release(UnixMillis),
    /// The same, and this was no attempt.
    Postpone(UnixMillis),
}

impl Runner {
    /// Writes what comes of a job whose attempts ended.
    pub(super) async fn settle(&self, job: &Job, stop: &Stop, ended: Ended, route: &ColdRoute) {
        let write = match ended {
            Ended::With(outcome) => Write::End(outcome),
            Ended::Again(failure) => {
                let down = route.targets.are_doubtful(Instant::now());
                let (settings, jitter) = (&route.settings, rand::random());
                let now = UnixMillis::now();
                match pause::after(&failure, job.attempts, settings, down, jitter) {
                    Next::Again(wait) => Write::Release(now.plus(wait)),
                    Next::Uncounted(wait) => Write::Postpone(now.plus(wait)),
                    Next::Nothing => Write::End(Outcome::failed(failure.error, failure.answer)),
                }
            }
            // No attempt: the provider took nothing of it. It ends by its deadline.
            Ended::Later(rest) => {
                route.more.store(true, Ordering::Relaxed);
                let now = UnixMillis::now();
                let age = job.created_at.until(now);
                let wait = pause::refused(rest, age, &route.settings, rand::random());
                Write::Postpone(now.plus(wait))
            }
        };
        self.write(&job.id, stop, write).await;
    }

    /// Writes the last of a run, again and again until the store has it or the run is stopped.
    pub(super) async fn write(&self, id: &JobId, stop: &Stop, write: Write) {
        let mut wait = FIRST;
        while let Some(fence) = self.runs.fence(id, stop) {
            match self.write_under(id, fence, &write).await {
                Ok(()) if self.runs.leave(id, stop, fence) => return,
                // It was taken back meanwhile: this is written under its new fence.
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, job = id.as_str(), "the end of a run is not written yet");
                    tokio::select! {
                        _ = stop.stopped() => return,
                        () = sleep(wait) => wait = LAST.min(wait * 2),
                    }
                }
            }
        }
    }

    async fn write_under(&self, id: &JobId, fence: u64, write: &Write) -> Result<(), StoreError> {
        let store = &self.parts.store;
        match write {
            Write::Release(at) => store.release(id, fence, *at).await,
            Write::Postpone(at) => store.postpone(id, fence, *at).await,
            Write::End(outcome) => {
                let now = UnixMillis::now();
                let written = store
                    .finish(id, By::Run(fence), outcome.clone(), now)
                    .await?;
                match written {
                    Some(job) => self.told(&job),
                    // Somebody else's end, or ours whose reply was lost: whoever waits looks again.
                    None => self.waiters.wake(id),
                }
                Ok(())
            }
        }
    }

    /// Ends a job whoever runs it, and tells who waits for it. Gives the job, or nothing if it had
    /// ended.
    ///
    /// # Errors
    /// The store is not available: the job goes on.
    pub async fn end(&self, id: &JobId, outcome: Outcome) -> Result<Option<Job>, StoreError> {
        let now = UnixMillis::now();
        // Whoever asked may leave, and the store's answer may be lost: then the run is looked up.
        self.runs.ends(id);
        let written = self.parts.store.finish(id, By::Order, outcome, now).await;
        let written = written.inspect_err(|error| {
            tracing::error!(%error, job = id.as_str(), "the end of a job was not written");
            self.lease.look();
        })?;
        if let Some(job) = &written {
            self.runs.ended(job);
            self.told(job);
        }
        Ok(written)
    }

    /// The same for whoever may leave before the store has answered: what it writes is told nevertheless.
    ///
    /// # Errors
    /// As above.
    pub async fn end_for(
        self: &Arc<Self>,
        id: &JobId,
        outcome: Outcome,
    ) -> Result<Option<Job>, StoreError> {
        let (reply, ended) = oneshot::channel();
        let (this, id) = (self.clone(), id.clone());
        self.parts.tasks.spawn(async move {
            let _ = reply.send(this.end(&id, outcome).await);
        });
        ended.await.unwrap_or(Err(StoreError::Silent))
    }

    /// Ends a job whose caller was refused, and of which nobody heard.
    pub(super) async fn undo(&self, job: &Job) {
        let refused = JobError::new(
            "cancelled",
            "its caller was refused: the job store was silent",
        );
        self.surely_end(job, By::Refused, Outcome::cancelled(refused))
            .await;
    }

    /// Ends a job again and again until that is written.
    pub(super) async fn surely_end(&self, job: &Job, by: By, outcome: Outcome) {
        let mut wait = FIRST;
        // Not the clock of the day: it may be set meanwhile, and then nobody would undo it.
        let until = Instant::now() + job.created_at.until(job.expires_at);
        while Instant::now() < until {
            let now = UnixMillis::now();
            let store = &self.parts.store;
            match store.finish(&job.id, by, outcome.clone(), now).await {
                Ok(Some(job)) => {
                    self.runs.ended(&job);
                    return self.told(&job);
                }
                Ok(None) => return,
                Err(error) => {
                    // Once of each: a store that is away for long would fill the log.
                    if wait == FIRST {
                        tracing::warn!(%error, job = job.id.as_str(), "the end of a job is not written yet");
                    }
                    sleep(wait).await;
                    wait = LAST.min(wait * 2);
                }
            }
        }
    }

    /// Keeps an answer under its key. Where the store is away its caller hears so at once, and the answer
    /// is kept as soon as the store is back. Who asks another gateway is refused while the store is away;
    /// between its return and the next try, at most `SOON`, a second answer may be made.
    pub(crate) async fn surely_keep(&self, kept: Kept, reply: Reply<()>) {
        let store = &self.parts.store;
        let size = kept.answer().map_or(0, |answer| answer.body.len());
        // A store that stands still must not fill the memory with what waits for it.
        let Some(_room) = self.unkept.room_for(size) else {
            let why = "too many answers wait for the store".into();
            let _ = reply.send(Err(StoreError::Unavailable(why)));
            return;
        };
        let told = store.keep(kept.clone()).await;
        let away = matches!(told, Err(StoreError::Unavailable(_) | StoreError::Silent));
        let _ = reply.send(told);
        if !away {
            return;
        }
        let (until, mut wait) = (Instant::now() + UNKEPT, FIRST);
        while Instant::now() < until {
            tokio::select! {
                () = self.parts.stop.raised() => return,
                () = sleep(wait) => wait = SOON.min(wait * 2),
            }
            if store.keep(kept.clone()).await.is_ok() {
                return;
            }
        }
        tracing::warn!(
            "an answer was not kept under its Idempotency-Key: the store was away for too long"
        );
    }

    /// A job's end was written here.
    fn told(&self, job: &Job) {
        self.waiters.wake(&job.id);
        self.tapes.finished(&job.id);
        if job.callback.is_some() {
            self.parts.callbacks.notify_one();
        }
        if let (Some(route), Some(finished)) = (self.route(&job.route), job.finished_at) {
            route.duration.record(job.created_at.until(finished));
            ended(&self.parts.meter, &job.route, job.status).increment(1);
        }
    }
}
