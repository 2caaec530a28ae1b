//! Does what the hot side asks through the door.
//!
//! Promises: each errand is a task of its own, so that none waits for another; an attempt that was
//! handed over has its owner before its caller is told.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Runner;
use crate::cold::door::{Errand, Handover, Reply};
use crate::cold::job::{Job, StoredRequest, UnixMillis};
use crate::cold::recall::{Became, CallKey, Kept};
use crate::cold::scope;
use crate::cold::store::StoreError;

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
            Errand::TakeOver(handover, reply) => self.adopt(*handover, reply).await,
            Errand::Recall(key, wait, reply) => {
                let _ = reply.send(self.recall(key, wait).await);
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

    async fn adopt(self: Arc<Self>, handover: Handover, reply: Reply<()>) {
        let Handover {
            job,
            request,
            attempts,
            key,
            scope,
        } = handover;
        let kept = self.insert(&job, request, key).await;
        let failed = kept.is_err();
        let _ = reply.send(kept);
        if failed {
            return;
        }
        // Its scope was cancelled while it was on its way here.
        if scope.is_some_and(|scope| scope.is_cancelled()) {
            let _ = self.end(&job.id, scope::ended()).await;
            return;
        }
        let Some(route) = self.route(&job.route) else {
            return;
        };
        if attempts.running() == 0 {
            self.wake_for(&route);
        } else {
            let stop = self.waiters.runs(&job.id);
            self.run(job, attempts, &route, stop).await;
        }
    }
}
