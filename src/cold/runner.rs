//! Runs jobs: those whose attempts were handed over, and those that wait in the store.
//!
//! Promises: a handed-over attempt goes on and is not sent again; a job is tried at most
//! `max_attempts` times with full jitter between (Brooker, Exponential Backoff And Jitter, 2015)
//! and ends by its deadline; a 429 is no attempt but a wait; stopping it leaves unfinished jobs in
//! the store for the next start.

mod claim;
mod drive;
mod errands;
mod operators;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Method;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::drive::{Ended, drive};
use super::history::{Run, Verdict};
use super::job::{
    Job, JobError, JobId, Reason, Status, StoredAnswer, StoredRequest, UnixMillis, header_map,
};
use super::store::{By, Outcome, SharedStore, StoreError};
use super::tape::Tapes;
use super::waiters::Waiters;
use crate::config::{Dialect, RouteCold};
use crate::latency::Kind;
use crate::meter::{Meter, Metric, Predictions, Said, Tracked, Witness};
use crate::tasks::{Signal, Tasks};
use crate::upstream::attempts::Attempts;
use crate::upstream::balance::Targets;
use crate::upstream::peek::Peek;
use crate::upstream::target::Call;

/// A route as its jobs see it.
pub struct ColdRoute {
    targets: Arc<Targets>,
    settings: RouteCold,
    connect: Duration,
    slots: Arc<Semaphore>,
    /// More jobs may be due than were taken from the store.
    more: AtomicBool,
    duration: Arc<Tracked>,
    queue: Arc<Tracked>,
    predictions: Option<Arc<Predictions>>,
    name: String,
}

impl ColdRoute {
    /// A route's jobs.
    pub fn new(
        name: &str,
        targets: Arc<Targets>,
        settings: RouteCold,
        connect: Duration,
        predictions: Option<Arc<Predictions>>,
        meter: &Arc<Meter>,
    ) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(settings.concurrency)),
            more: AtomicBool::new(false),
            duration: meter.track(Metric::JobDuration, name, None),
            queue: meter.track(Metric::JobQueue, name, None),
            name: name.to_owned(),
            targets,
            settings,
            connect,
            predictions,
        }
    }

    /// Where the time of a job's first attempt counts: a job that was predicted is judged by it.
    fn witness(&self, job: &Job, kind: Kind) -> Option<Witness> {
        let predictions = self.predictions.clone().filter(|_| job.attempts <= 1)?;
        let predicted = job.reason == Reason::Predicted;
        let said = predicted.then(|| Said {
            late: true,
            budget: Duration::from_millis(job.budget_ms),
        });
        Some(Witness::new(predictions, kind, said))
    }
}

/// Routes by name; exchanged by a reload.
pub type ColdRoutes = ArcSwap<HashMap<String, Arc<ColdRoute>>>;

/// What the runner is made from.
pub struct Parts {
    /// Where jobs are kept.
    pub store: SharedStore,
    /// Their routes.
    pub routes: Arc<ColdRoutes>,
    /// Counts them.
    pub meter: Arc<Meter>,
    /// Owns their tasks.
    pub tasks: Tasks,
    /// Which connections they use.
    pub pool: usize,
    /// Longest answer kept.
    pub answer_limit: usize,
    /// Finished jobs are kept this long.
    pub retention: Duration,
    /// Told when a callback is due.
    pub callbacks: Arc<Notify>,
    /// Ends the answers that follow a job.
    pub stop: Signal,
}

/// Runs jobs.
pub struct Runner {
    parts: Parts,
    waiters: Waiters,
    tapes: Tapes,
    wake: Notify,
    /// Which route is looked at first.
    turn: AtomicUsize,
}

/// How often the store is looked at for jobs that are due.
const LOOK: Duration = Duration::from_millis(250);

/// How long a gateway's jobs stay its own without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(8);

/// Jobs that expire or are swept in one step.
const STEP: usize = 500;

/// Steps of one sweep: half a million rows a minute.
const SWEEPS: usize = 1_000;

impl Runner {
    /// A runner that has not begun.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            waiters: Waiters::default(),
            tapes: Tapes::default(),
            wake: Notify::new(),
            turn: AtomicUsize::new(0),
        })
    }

    /// The store.
    pub fn store(&self) -> &SharedStore {
        &self.parts.store
    }

    /// What running jobs bring.
    pub(super) fn tapes(&self) -> &Tapes {
        &self.tapes
    }

    /// Raised when answers that follow a job are to end.
    pub(super) fn stop(&self) -> &Signal {
        &self.parts.stop
    }

    /// The job once it is finished, or as it stands after the wait.
    pub async fn awaited(&self, id: &JobId, wait: Duration) -> Result<Option<Job>, StoreError> {
        if !wait.is_zero() {
            let waiter = self.waiters.of(id);
            let notified = waiter.notified();
            tokio::pin!(notified);
            // Listening before looking: an end in between is not missed.
            notified.as_mut().enable();
            let job = self.parts.store.get(id).await?;
            if job.as_ref().is_none_or(|job| job.status.is_final()) {
                // Nobody ends it once more, so nobody else would take the waiter away.
                self.waiters.finished(id);
                return Ok(job);
            }
            let _ = tokio::time::timeout(wait, notified).await;
        }
        self.parts.store.get(id).await
    }

    /// Jobs of this route are due.
    fn wake_for(&self, route: &ColdRoute) {
        route.more.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn route(&self, name: &str) -> Option<Arc<ColdRoute>> {
        self.parts.routes.load().get(name).cloned()
    }

    /// Runs due jobs, ends overdue ones and sweeps old ones until it is cancelled.
    pub async fn look_after(self: Arc<Self>, cancel: CancellationToken) {
        let mut look = interval(LOOK);
        let mut steps = 0u64;
        let mut held = None;
        loop {
            let all = tokio::select! {
                () = cancel.cancelled() => return,
                () = self.wake.notified() => false,
                () = sleep(held.unwrap_or(LOOK)), if held.is_some() => false,
                _ = look.tick() => true,
            };
            held = self.claim(all).await;
            if !all {
                continue;
            }
            steps += 1;
            if steps.is_multiple_of(4) {
                self.expire().await;
            }
            if steps.is_multiple_of(240) {
                self.sweep().await;
            }
        }
    }

    /// What is older has passed its retention.
    fn past(&self) -> UnixMillis {
        let kept = i64::try_from(self.parts.retention.as_millis()).unwrap_or(i64::MAX);
        UnixMillis(UnixMillis::now().0.saturating_sub(kept))
    }

    /// Whether what was kept then is past its retention.
    pub fn is_past(&self, at: UnixMillis) -> bool {
        at < self.past()
    }

    /// Deletes what is past its retention, in steps between which others write.
    async fn sweep(&self) {
        let past = self.past();
        for _ in 0..SWEEPS {
            let swept = self.parts.store.sweep(STEP, past).await;
            if swept.unwrap_or(0) < STEP as u64 {
                return;
            }
        }
    }

    async fn expire(&self) {
        let overdue = self.parts.store.overdue(STEP, UnixMillis::now()).await;
        for id in overdue.unwrap_or_default() {
            let _ = self.end(&id, expired()).await;
        }
    }

    /// Whether a job that was taken is still ours to run. A store that cannot say so is no reason
    /// to leave it.
    async fn still_runs(&self, taken: &Job) -> bool {
        let ours = |job: Job| !job.status.is_final() && job.fence == taken.fence;
        let found = self.parts.store.get(&taken.id).await;
        found.map_or(true, |job| job.is_some_and(ours))
    }

    /// Drives a job's attempts to its end, or back into the queue, unless it is stopped. `stop` was
    /// there before anybody could hear of the job's start. What became of them is written with it.
    async fn run(
        &self,
        job: Job,
        attempts: Attempts,
        route: &ColdRoute,
        stop: CancellationToken,
        began: UnixMillis,
    ) {
        let left = UnixMillis::now().until(job.expires_at);
        let tape = self.tapes.of(&job.id);
        tape.touch();
        let run = Run::begin(&job, attempts.tried(), began);
        let (ended, by) = tokio::select! {
            biased;
            // Whoever stopped it has written its end.
            () = stop.cancelled() => {
                let _ = self.parts.store.note(&job.id, run.records(None, &Verdict::stopped())).await;
                return;
            }
            () = sleep_until(Instant::now() + left) => (Ended::With(expired()), None),
            ended = drive(attempts, self.parts.answer_limit, &tape) => ended,
        };
        self.waiters.rests(&job.id);
        let verdict = match &ended {
            Ended::With(outcome) => Verdict::of(outcome),
            Ended::Again(error, answer) => Verdict::with("retried", answer.as_ref(), Some(error)),
            Ended::Later(_) => Verdict::rate_limited(),
        };
        let labels = [("route", route.name.as_str()), ("result", verdict.result)];
        self.parts
            .meter
            .counter("shunt_job_attempts_total", &labels)
            .increment(1);
        // Asked for together, they share a commit.
        let note = self
            .parts
            .store
            .note(&job.id, run.records(by.as_ref(), &verdict));
        let (noted, ()) = tokio::join!(note, self.settle(&job, ended, route));
        tape.touch();
        self.tapes.left(&job.id, &tape);
        if let Err(error) = noted {
            tracing::warn!(%error, job = job.id.as_str(), "an attempt is missing in a job's history");
        }
    }

    /// Writes what comes of a job whose attempts ended.
    async fn settle(&self, job: &Job, ended: Ended, route: &ColdRoute) {
        match ended {
            Ended::With(outcome) => self.finish(job, outcome).await,
            Ended::Again(error, answer) if job.attempts >= route.settings.max_attempts => {
                self.finish(job, failed(error, answer)).await;
            }
            Ended::Again(..) => {
                let at = UnixMillis::now().plus(backoff(&route.settings, job.attempts));
                let _ = self.parts.store.release(&job.id, job.fence, at).await;
            }
            // No attempt: the provider took nothing of it. It ends by its deadline.
            Ended::Later(rest) => {
                let at = UnixMillis::now().plus(rest);
                let _ = self.parts.store.postpone(&job.id, job.fence, at).await;
                route.more.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Ends a job whoever runs it, and tells who waits for it. Gives the job, or nothing if it had
    /// ended.
    pub async fn end(&self, id: &JobId, outcome: Outcome) -> Option<Job> {
        self.write_end(id, By::Order, outcome).await
    }

    /// Ends a job that ran here; refused where another took it since.
    async fn finish(&self, job: &Job, outcome: Outcome) {
        let _ = self.write_end(&job.id, By::Run(job.fence), outcome).await;
    }

    async fn write_end(&self, id: &JobId, by: By, outcome: Outcome) -> Option<Job> {
        let written = self
            .parts
            .store
            .finish(id, by, outcome, UnixMillis::now())
            .await;
        let job = match written {
            Ok(job) => job?,
            Err(error) => {
                // It stays running in the store, and the next start runs it again.
                tracing::error!(%error, job = id.as_str(), "the end of a job was not written");
                return None;
            }
        };
        self.waiters.finished(id);
        self.tapes.finished(id);
        if job.callback.is_some() {
            self.parts.callbacks.notify_one();
        }
        if let (Some(route), Some(finished)) = (self.route(&job.route), job.finished_at) {
            route.duration.record(job.created_at.until(finished));
        }
        Some(job)
    }
}

fn error(code: &str, message: &str) -> JobError {
    JobError {
        code: code.into(),
        message: message.into(),
    }
}

fn failed(error: JobError, answer: Option<StoredAnswer>) -> Outcome {
    Outcome {
        status: Status::Failed,
        answer,
        error: Some(error),
    }
}

fn cancelled(error: JobError) -> Outcome {
    Outcome {
        status: Status::Cancelled,
        ..failed(error, None)
    }
}

fn expired() -> Outcome {
    Outcome {
        status: Status::Expired,
        answer: None,
        error: Some(error("expired", "the job passed its route's cold.deadline")),
    }
}

/// Full jitter over a doubling back-off.
fn backoff(settings: &RouteCold, attempts: u32) -> Duration {
    let doubled = 2u32.saturating_pow(attempts.saturating_sub(1).min(20));
    let most = settings.backoff.get().saturating_mul(doubled);
    most.min(settings.backoff_max.get())
        .mul_f64(rand::random::<f64>())
}

fn call(request: StoredRequest, dialect: Dialect) -> Option<Call> {
    let peek = Peek::read(&request.body).unwrap_or_default();
    Some(Call {
        method: Method::from_bytes(request.method.as_bytes()).ok()?,
        path: request.path_and_query.parse().ok()?,
        headers: header_map(&request.headers),
        kind: peek.kind(dialect, request.body.len()),
        body: request.body,
        trailers: None,
        model: peek.model_at,
        streamed: peek.stream,
    })
}
