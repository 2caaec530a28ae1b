//! Does what the hot side asks through the door.
//!
//! Promises: each errand is a task of its own, so that none waits for another; an attempt that was
//! handed over has its owner before its caller is told; what waits for the store is bounded in bytes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Runner;
use super::drive::Driven;
use super::writes::Write;
use crate::cold::door::{Decision, Errand, Handover, Reply};
use crate::cold::job::{Job, StoredRequest, UnixMillis};
use crate::cold::recall::{Became, CallKey, Kept};
use crate::cold::responses;
use crate::cold::runs::Stop;
use crate::cold::scope;
use crate::cold::store::{By, StoreError};

impl Runner {
    /// Does what is asked through the door until it is cancelled, and then what still waits there.
    pub async fn take_over(
        self: Arc<Self>,
        mut intake: mpsc::Receiver<Errand>,
        cancel: CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                errand = intake.recv() => match errand {
                    Some(errand) => self.parts.tasks.spawn(self.clone().run_errand(errand)),
                    None => break,
                },
                () = cancel.cancelled() => break,
            }
        }
    }

    /// Whoever asked may have left: then nobody is told.
    async fn run_errand(self: Arc<Self>, errand: Errand) {
        match errand {
            Errand::TakeOver(handover, decision, reply) => {
                // A store that stands still must not fill the memory with what waits for it.
                let Some(room) = self.coming.room_for(handover.request.body.len()) else {
                    let why = "too many calls wait for the job store".into();
                    let _ = reply.send(Err(StoreError::Unavailable(why)));
                    return;
                };
                self.adopt(*handover, room, &decision, reply).await;
            }
            Errand::Recall(key, wait, reply) => {
                let _ = reply.send(self.recall(key, wait).await);
            }
            Errand::AtProvider(owner, id, reply) => {
                let _ = reply.send(responses::at_provider(&self, owner, &id).await);
            }
            Errand::Keep(kept, reply) => {
                self.surely_keep(*kept, reply).await;
            }
            Errand::JobsOf(owner, scope, reply) => {
                let _ = reply.send(self.jobs_of(owner, &scope).await);
            }
            Errand::CancelAll(owner, scope, reply) => {
                let _ = reply.send(self.cancel_all(owner, &scope).await);
            }
        }
    }

    /// Writes the job, and before it what its key stands for: a key without a job is free. Gives the job
    /// that its key led to before, where that is not finished: then nothing is written.
    async fn insert(
        &self,
        job: &Job,
        request: StoredRequest,
        key: Option<CallKey>,
    ) -> Result<Option<Box<Job>>, StoreError> {
        let store = &self.parts.store;
        let Some(key) = key else {
            return store.insert(job.clone(), request).await.map(|()| None);
        };
        if let Some(before) = self.job_under(key).await {
            return Ok(Some(before));
        }
        let kept = Kept {
            key,
            at: UnixMillis::now(),
            what: Became::Job(job.id.clone()),
        };
        // An insert that was begun is waited for: left alone it might yet leave a job that runs nowhere.
        let keep = async { Ok(store.keep(kept).await) };
        let insert = store.insert_keyed(job.clone(), request);
        let (kept, ()) = tokio::try_join!(keep, insert)?;
        // The job is there, and its key may not lead to it: its call must not be made once more.
        kept.map_err(|_| StoreError::Silent).map(|()| None)
    }

    /// The unfinished job of the same call, sent to another gateway. Here twins know each other.
    async fn job_under(&self, key: CallKey) -> Option<Box<Job>> {
        if !self.shared.load(Ordering::Relaxed) {
            return None;
        }
        let store = &self.parts.store;
        let kept = store.kept(key.name).await.ok()??;
        let same = kept.key.print == key.print && !self.is_past(kept.at);
        let before = store.get(kept.job().filter(|_| same)?).await.ok()??;
        (!before.status.is_final()).then(|| Box::new(before))
    }

    /// Makes a call a job and runs it; its attempts go on while it is written. A caller that was refused
    /// because the store was silent sends its call again: without a key nobody will ask for the job, so
    /// its attempts are cancelled and it ends as soon as it is written; with a key the job runs, and the
    /// next call finds it.
    async fn adopt(
        self: Arc<Self>,
        handover: Handover,
        room: OwnedSemaphorePermit,
        decision: &Decision,
        reply: Reply<Option<Box<Job>>>,
    ) {
        let Handover {
            job,
            request,
            attempts,
            key,
            scope,
        } = handover;
        // Here before anybody can hear of it, so that whoever ends it from then on stops it.
        let stop = (attempts.running() > 0)
            .then(|| self.runs.enter(&job.id, job.fence))
            .flatten();
        let until = Instant::now() + job.created_at.until(job.expires_at);
        let mut span = self.span_of(&job, &request);
        for target in attempts.targets() {
            // What it was sent with stands.
            let _ = span.as_mut().map(|span| span.attempts(target));
        }
        let begin = |_: &Stop| self.drive(&job, attempts, job.created_at, until, span);
        let mut driven = stop.as_ref().map(begin);
        let keyed = key.is_some();
        let insert = self.insert(&job, request, key);
        let made = written(insert, decision, keyed, reply, &mut driven).await;
        let cancelled = scope.is_some_and(|scope| scope.is_cancelled());
        if matches!(made, Made::Wanted) && !cancelled {
            drop(room);
            return self.clone().set_off(job, stop.zip(driven)).await;
        }
        self.give_up(&job, driven);
        // What is to be undone waits for the store as well: its room is kept until then.
        match (made, &stop) {
            // Its scope was cancelled while it was on its way here.
            (Made::Wanted, _) => self.surely_end(&job, By::Order, scope::ended()).await,
            (Made::Unheard, _) => self.undo(&job).await,
            (Made::Doubtful, Some(stop)) => {
                let now = Write::Release(UnixMillis::now());
                self.write(&job.id, stop, now).await;
            }
            (Made::Doubtful | Made::Nothing, _) => {}
        }
        if let Some(stop) = &stop {
            self.runs.leave(&job.id, stop, job.fence);
        }
    }

    /// Runs a job that was handed over with its attempts, or has it claimed.
    async fn set_off(self: Arc<Self>, job: Job, run: Option<(Stop, Driven)>) {
        match (run, self.route(&job.route)) {
            // A task of its own: what was needed until here is let go while the job runs.
            (Some((stop, driven)), Some(route)) => {
                let running = self.clone().run(Box::new(job), driven, route, stop);
                self.parts.tasks.spawn(running);
            }
            (Some((stop, driven)), None) => {
                self.give_up(&job, Some(driven));
                let now = Write::Release(UnixMillis::now());
                self.write(&job.id, &stop, now).await;
            }
            (None, Some(route)) => self.wake_for(&route),
            (None, None) => {}
        }
    }
}

/// What came of writing a job.
enum Made {
    /// It is written, and somebody has heard of it or will ask for it.
    Wanted,
    /// It is written, or may be, and nobody will ask for it.
    Unheard,
    /// It may be written, and its key may lead to it.
    Doubtful,
    /// There is none.
    Nothing,
}

/// Waits for the store, and drives what runs meanwhile: what it brings is read, whoever is silent.
async fn written(
    insert: impl Future<Output = Result<Option<Box<Job>>, StoreError>>,
    decision: &Decision,
    keyed: bool,
    reply: Reply<Option<Box<Job>>>,
    driven: &mut Option<Driven>,
) -> Made {
    let (mut insert, mut reply) = (pin!(insert), Some(reply));
    let kept = loop {
        tokio::select! {
            biased;
            kept = &mut insert => break kept,
            () = decision.refused(), if !keyed && reply.is_some() => {
                *driven = None;
                let _ = reply.take().map(|reply| reply.send(Err(StoreError::Silent)));
            }
            () = Driven::go_on(driven) => {}
        }
    };
    let made = match &kept {
        Ok(Some(_)) | Err(StoreError::QueueFull { .. }) => Made::Nothing,
        Ok(None) if decision.is_first() || keyed => Made::Wanted,
        Err(_) if keyed => Made::Doubtful,
        Ok(None) | Err(_) => Made::Unheard,
    };
    let _ = reply.map(|reply| reply.send(kept));
    made
}
