//! Does what the hot side asks through the door.
//!
//! Promises: each errand is a task of its own, so that none waits for another; an attempt that was
//! handed over has its owner before its caller is told.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Runner;
use super::writes::Write;
use crate::cold::door::{Decision, Errand, Handover, Reply};
use crate::cold::job::{Job, JobError, StoredRequest, UnixMillis};
use crate::cold::recall::{Became, CallKey, Kept};
use crate::cold::responses;
use crate::cold::scope;
use crate::cold::store::{Outcome, StoreError};

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
                self.adopt(*handover, &decision, reply).await;
            }
            Errand::Recall(key, wait, reply) => {
                let _ = reply.send(self.recall(key, wait).await);
            }
            Errand::AtProvider(owner, id, reply) => {
                let _ = reply.send(responses::at_provider(&self, owner, &id).await);
            }
            Errand::Keep(kept, reply) => {
                let _ = reply.send(self.parts.store.keep(*kept).await);
            }
            Errand::JobsOf(owner, scope, reply) => {
                let _ = reply.send(self.jobs_of(owner, &scope).await);
            }
            Errand::CancelAll(owner, scope, reply) => {
                let _ = reply.send(self.cancel_all(owner, &scope).await);
            }
        }
    }

    /// Writes the job, and before it what its key stands for: a key without a job is free.
    async fn insert(
        &self,
        job: &Job,
        request: StoredRequest,
        key: Option<CallKey>,
    ) -> Result<(), StoreError> {
        let store = &self.parts.store;
        let Some(key) = key else {
            return store.insert(job.clone(), request).await;
        };
        let kept = Kept {
            key,
            at: UnixMillis::now(),
            what: Became::Job(job.id.clone()),
        };
        tokio::try_join!(store.keep(kept), store.insert(job.clone(), request)).map(|_| ())
    }

    /// Makes a call a job and runs it. A caller that was refused because the store was silent sends
    /// its call again: without a key nobody will ask for the job, so its attempts are cancelled and
    /// it ends as soon as it is written; with a key the job runs, and the next call finds it.
    async fn adopt(self: Arc<Self>, handover: Handover, decision: &Decision, reply: Reply<()>) {
        let Handover {
            job,
            request,
            mut attempts,
            key,
            scope,
        } = handover;
        // Here before anybody can hear of it, so that whoever ends it from then on stops it.
        let stop = (attempts.running() > 0)
            .then(|| self.runs.enter(&job.id, job.fence))
            .flatten();
        let kept = {
            let insert = self.insert(&job, request, key);
            tokio::pin!(insert);
            tokio::select! {
                biased;
                kept = &mut insert => kept,
                () = decision.refused(), if key.is_none() => {
                    drop(std::mem::take(&mut attempts));
                    insert.await
                }
            }
        };
        if kept.is_err() {
            if let Some(stop) = &stop {
                self.runs.leave(&job.id, stop, job.fence);
            }
            let _ = reply.send(kept);
            return;
        }
        let wanted = decision.is_first() || key.is_some();
        let _ = reply.send(kept);
        if !wanted {
            let refused = JobError::new(
                "cancelled",
                "its caller was refused: the job store was silent",
            );
            let _ = self.end(&job.id, Outcome::cancelled(refused)).await;
            return;
        }
        // Its scope was cancelled while it was on its way here.
        if scope.is_some_and(|scope| scope.is_cancelled()) {
            let _ = self.end(&job.id, scope::ended()).await;
            return;
        }
        let (stop, route) = match (stop, self.route(&job.route)) {
            (Some(stop), Some(route)) => (stop, route),
            (Some(stop), None) => {
                let now = Write::Release(UnixMillis::now());
                return self.write(&job.id, &stop, now).await;
            }
            (None, route) => {
                if let Some(route) = route {
                    self.wake_for(&route);
                }
                return;
            }
        };
        // A task of its own: what was needed until here is let go while the job runs.
        let began = job.created_at;
        let running = self
            .clone()
            .run(Box::new(job), attempts, route, stop, began);
        self.parts.tasks.spawn(running);
    }
}
