//! Runs jobs: those whose attempts were handed over, and those that wait in the store.
//!
//! Promises: a handed-over attempt goes on and is not sent again; a job is tried at most
//! `max_attempts` times with full jitter between (Brooker, Exponential Backoff And Jitter, 2015)
//! and ends by its deadline; stopping it leaves unfinished jobs in the store for the next start.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Method;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::door::Handover;
use super::job::{
    Job, JobError, JobId, Status, StoredAnswer, StoredRequest, UnixMillis, header_map, lines,
};
use super::store::{ClaimedJob, Outcome, SharedStore};
use super::waiters::Waiters;
use crate::config::RouteCold;
use crate::meter::{Meter, Metric, Tracked, Use};
use crate::tasks::Tasks;
use crate::upstream::attempt::{Attempt, Hold, Start, Verdict};
use crate::upstream::attempts::Attempts;
use crate::upstream::balance::Targets;
use crate::upstream::peek::Peek;
use crate::upstream::refusal::retryable;
use crate::upstream::target::Call;

/// A route as its jobs see it.
pub struct ColdRoute {
    targets: Arc<Targets>,
    settings: RouteCold,
    connect: Duration,
    slots: Arc<Semaphore>,
    duration: Arc<Tracked>,
    queue: Arc<Tracked>,
    name: String,
}

impl ColdRoute {
    /// A route's jobs.
    pub fn new(
        name: &str,
        targets: Arc<Targets>,
        settings: RouteCold,
        connect: Duration,
        meter: &Arc<Meter>,
    ) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(settings.concurrency)),
            duration: meter.track(Metric::JobDuration, name, None),
            queue: meter.track(Metric::JobQueue, name, None),
            name: name.to_owned(),
            targets,
            settings,
            connect,
        }
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
}

/// Runs jobs.
pub struct Runner {
    parts: Parts,
    waiters: Waiters,
    wake: Notify,
}

/// How often the store is looked at for jobs that are due.
const LOOK: Duration = Duration::from_millis(250);

/// Jobs that expire or are swept in one step.
const STEP: usize = 500;

enum Ended {
    With(Outcome),
    Again(JobError, Option<StoredAnswer>),
}

impl Runner {
    /// A runner that has not begun.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            waiters: Waiters::default(),
            wake: Notify::new(),
        })
    }

    /// The store.
    pub fn store(&self) -> &SharedStore {
        &self.parts.store
    }

    /// What is notified when the job finishes.
    pub fn waiter(&self, id: &JobId) -> Arc<Notify> {
        self.waiters.of(id)
    }

    /// Takes over what comes through the door until it is cancelled, then what still waits there.
    pub async fn take_over(
        self: Arc<Self>,
        mut intake: mpsc::Receiver<Handover>,
        cancel: CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                handover = intake.recv() => match handover {
                    Some(handover) => self.parts.tasks.spawn(self.clone().adopt(handover)),
                    None => break,
                },
                () = cancel.cancelled() => break,
            }
        }
    }

    async fn adopt(self: Arc<Self>, handover: Handover) {
        let Handover {
            job,
            request,
            attempts,
            reply,
        } = handover;
        let kept = self.parts.store.insert(job.clone(), request).await;
        let failed = kept.is_err();
        let _ = reply.send(kept);
        if failed {
            return;
        }
        if attempts.running() == 0 {
            self.wake.notify_one();
            return;
        }
        if let Some(route) = self.route(&job.route) {
            let stop = self.waiters.runs(&job.id);
            self.run(job, attempts, &route, stop).await;
        }
    }

    fn route(&self, name: &str) -> Option<Arc<ColdRoute>> {
        self.parts.routes.load().get(name).cloned()
    }

    /// Runs due jobs, ends overdue ones and sweeps old ones until it is cancelled.
    pub async fn look_after(self: Arc<Self>, cancel: CancellationToken) {
        let mut look = interval(LOOK);
        let mut steps = 0u64;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.wake.notified() => {}
                _ = look.tick() => steps += 1,
            }
            self.claim().await;
            if steps.is_multiple_of(4) {
                self.expire().await;
            }
            if steps.is_multiple_of(240) {
                let before = UnixMillis::now().0;
                let kept = i64::try_from(self.parts.retention.as_millis()).unwrap_or(i64::MAX);
                let before = UnixMillis(before.saturating_sub(kept));
                let _ = self.parts.store.sweep(STEP, before).await;
            }
        }
    }

    async fn claim(self: &Arc<Self>) {
        let routes = self.parts.routes.load_full();
        for route in routes.values() {
            let free = route.slots.available_permits().min(STEP);
            if free == 0 {
                continue;
            }
            let claimed = self
                .parts
                .store
                .claim(&route.name, free, UnixMillis::now())
                .await;
            for claimed in claimed.unwrap_or_default() {
                let permit = route.slots.clone().try_acquire_owned().ok();
                let task = self.clone().start(claimed, route.clone(), permit);
                self.parts.tasks.spawn(task);
            }
        }
    }

    async fn expire(&self) {
        let overdue = self.parts.store.overdue(STEP, UnixMillis::now()).await;
        for id in overdue.unwrap_or_default() {
            self.finish(&id, expired()).await;
        }
    }

    async fn start(
        self: Arc<Self>,
        claimed: ClaimedJob,
        route: Arc<ColdRoute>,
        _permit: Option<OwnedSemaphorePermit>,
    ) {
        let ClaimedJob { job, request } = claimed;
        // From here on whoever ends it stops it; who ended it while it was claimed could not.
        let stop = self.waiters.runs(&job.id);
        if !self.is_running(&job.id).await {
            self.waiters.rests(&job.id);
            return;
        }
        route.queue.record(job.created_at.until(UnixMillis::now()));
        let Some(call) = call(request) else {
            let error = error("bad_request", "the stored request cannot be read");
            self.finish(&job.id, failed(error, None)).await;
            return;
        };
        let target = route.targets.first(Instant::now()).clone();
        let mut request = target.request(&call, None);
        *request.uri_mut() = call.path.clone().into();
        let mut attempt = Attempt::start(Start {
            request,
            target,
            now: Instant::now(),
            worker: self.parts.pool,
            connect: route.connect,
            streamed: call.streamed,
            basis: None,
        });
        attempt.used_for(Use::Cold);
        let mut attempts = Attempts::default();
        attempts.push(attempt, false);
        self.run(job, attempts, &route, stop).await;
    }

    /// Whether a job is still to be run. A store that cannot say so is no reason to leave it.
    async fn is_running(&self, id: &JobId) -> bool {
        let found = self.parts.store.get(id).await;
        found.map_or(true, |job| job.is_some_and(|job| !job.status.is_final()))
    }

    /// Drives a job's attempts to its end, or back into the queue, unless it is stopped.
    async fn run(&self, job: Job, attempts: Attempts, route: &ColdRoute, stop: CancellationToken) {
        let left = UnixMillis::now().until(job.expires_at);
        let ended = tokio::select! {
            biased;
            // Whoever stopped it has written its end.
            () = stop.cancelled() => return,
            () = sleep_until(Instant::now() + left) => Ended::With(expired()),
            ended = drive(attempts, self.parts.answer_limit) => ended,
        };
        self.waiters.rests(&job.id);
        let result = match &ended {
            Ended::With(outcome) => outcome.status.as_str(),
            Ended::Again(..) => "retried",
        };
        let labels = [("route", route.name.as_str()), ("result", result)];
        self.parts
            .meter
            .counter("shunt_job_attempts_total", &labels)
            .increment(1);
        match ended {
            Ended::With(outcome) => self.finish(&job.id, outcome).await,
            Ended::Again(error, answer) if job.attempts >= route.settings.max_attempts => {
                self.finish(&job.id, failed(error, answer)).await;
            }
            Ended::Again(..) => {
                let at = UnixMillis::now().plus(backoff(&route.settings, job.attempts));
                let _ = self.parts.store.release(&job.id, at).await;
            }
        }
    }

    /// Writes a job's end and tells who waits for it. Gives the job, or nothing if it had ended.
    pub async fn end(&self, id: &JobId, outcome: Outcome) -> Option<Job> {
        let written = self
            .parts
            .store
            .finish(id, outcome, UnixMillis::now())
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
        if job.callback.is_some() {
            self.parts.callbacks.notify_one();
        }
        if let (Some(route), Some(finished)) = (self.route(&job.route), job.finished_at) {
            route.duration.record(job.created_at.until(finished));
        }
        Some(job)
    }

    async fn finish(&self, id: &JobId, outcome: Outcome) {
        let _ = self.end(id, outcome).await;
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

fn call(request: StoredRequest) -> Option<Call> {
    let peek = Peek::read(&request.body).unwrap_or_default();
    Some(Call {
        method: Method::from_bytes(request.method.as_bytes()).ok()?,
        path: request.path_and_query.parse().ok()?,
        headers: header_map(&request.headers),
        body: request.body,
        trailers: None,
        model: peek.model_at,
        streamed: peek.stream,
    })
}

/// Runs attempts side by side until one has a whole answer, or none is left. None waits for
/// another's bytes: one that stops within does not hold up the others.
async fn drive(attempts: Attempts, limit: usize) -> Ended {
    let each = attempts.into_running().map(|one| follow(one, limit));
    let mut running: FuturesUnordered<_> = each.collect();
    let mut last = Ended::Again(error("provider_unreachable", "there is no attempt"), None);
    while let Some(ended) = running.next().await {
        if matches!(ended, Ended::With(_)) {
            return ended;
        }
        last = ended;
    }
    last
}

async fn follow(mut attempt: Box<Attempt>, limit: usize) -> Ended {
    match poll_fn(|context| attempt.poll_verdict(context, Hold::Head)).await {
        Verdict::Answer => keep(attempt, limit).await,
        Verdict::Refused(status, _) => {
            let answer = match keep(attempt, limit).await {
                Ended::With(outcome) => outcome.answer,
                Ended::Again(_, answer) => answer,
            };
            let message = format!("the provider answered {status}");
            Ended::Again(error("provider_error", &message), answer)
        }
        Verdict::Broken(why) => Ended::Again(error("provider_unreachable", &why.to_string()), None),
    }
}

/// Reads an answer to its end.
async fn keep(mut attempt: Box<Attempt>, limit: usize) -> Ended {
    let Some(head) = attempt.take_head() else {
        return Ended::Again(error("provider_unreachable", "there is no answer"), None);
    };
    let mut body = BytesMut::new();
    while let Some(frame) = poll_fn(|context| attempt.poll_frame(context)).await {
        match frame {
            Ok(frame) => body.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Err(why) => {
                let message = format!("the provider broke off: {why}");
                return Ended::Again(error("provider_unreachable", &message), None);
            }
        }
        if body.len() > limit {
            let message = format!("the answer is longer than limits.answer ({limit} bytes)");
            return Ended::With(failed(error("answer_too_large", &message), None));
        }
    }
    let mut headers = head.headers;
    for name in [
        "connection",
        "transfer-encoding",
        "keep-alive",
        "content-length",
    ] {
        headers.remove(name);
    }
    let status = head.status.as_u16();
    let answer = Some(StoredAnswer {
        status,
        headers: lines(&headers),
        body: body.freeze(),
    });
    if head.status.is_success() {
        return Ended::With(Outcome {
            status: Status::Succeeded,
            answer,
            error: None,
        });
    }
    let why = error("provider_error", &format!("the provider answered {status}"));
    if retryable(status) {
        Ended::Again(why, answer)
    } else {
        Ended::With(failed(why, answer))
    }
}
