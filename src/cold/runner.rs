//! Runs jobs: those whose attempts were handed over, and those that wait in the store.
//!
//! Promises: a handed-over attempt goes on and is not sent again; a job is tried at most
//! `max_attempts` times with full jitter between (Brooker, Exponential Backoff And Jitter, 2015)
//! and ends by its deadline; a 429, and that every target is away, is no attempt but a wait;
//! stopping it leaves unfinished jobs in the store for the next start.

mod claim;
mod drive;
mod errands;
mod lease;
mod news;
mod operators;
mod pause;
pub mod reading;
mod room;
mod route;
mod spans;
mod sweep;
mod writes;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Method;
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use self::drive::{Driven, Ended};
use self::lease::Lease;
pub use self::lease::Pulse;
use self::room::Room;
pub use self::route::ColdRoute;
use self::route::tried;
use super::history::{Run, Verdict};
use super::job::{Job, Status, StoredRequest, UnixMillis, header_map};
use super::runs::{Runs, Stop, Why};
use super::store::{Outcome, SharedStore};
use super::tape::Tapes;
use super::waiters::Waiters;
use crate::config::Dialect;
use crate::journal::{Journal, work};
use crate::meter::Meter;
use crate::tasks::{Signal, Tasks};
use crate::upstream::attempts::Attempts;
use crate::upstream::peek::Peek;
use crate::upstream::target::Call;

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
    /// Ends the answers that follow a job; nothing more is claimed.
    pub stop: Signal,
    /// How long this gateway's lease is.
    pub pulse: Pulse,
    /// Where runs are traced, where that is wanted.
    pub journal: Option<Arc<Journal>>,
}

/// Runs jobs.
pub struct Runner {
    parts: Parts,
    lease: Lease,
    runs: Runs,
    waiters: Waiters,
    tapes: Tapes,
    wake: Notify,
    /// Other gateways write to the store, too.
    shared: AtomicBool,
    /// Until when jobs may come to light that a claim took whose reply was lost.
    strays: Mutex<Option<Instant>>,
    /// Which route is looked at first.
    turn: AtomicUsize,
    /// Answers under a key that the store could not keep yet.
    unkept: Room,
    /// Calls on their way into the store.
    coming: Room,
    /// Answers that somebody reads.
    reading: Room,
}

/// How often the store is looked at for jobs that are due.
const LOOK: Duration = Duration::from_millis(250);

/// Bytes of answers under a key that wait for the store to be back.
const UNKEPT: usize = 64 << 20;

/// Bytes of calls on their way into the store: several of the largest.
const COMING: usize = 256 << 20;

/// Bytes of long answers that are read at one time.
const READING: usize = 256 << 20;

/// Jobs that expire or are swept in one step.
const STEP: usize = 500;

impl Runner {
    /// A runner that has not begun.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            lease: Lease::default(),
            runs: Runs::default(),
            shared: AtomicBool::new(false),
            strays: Mutex::default(),
            waiters: Waiters::default(),
            tapes: Tapes::default(),
            wake: Notify::new(),
            turn: AtomicUsize::new(0),
            unkept: Room::of(UNKEPT),
            coming: Room::of(COMING),
            reading: Room::of(READING),
        })
    }

    /// The store.
    pub fn store(&self) -> &SharedStore {
        &self.parts.store
    }

    /// What running jobs bring.
    pub(crate) fn tapes(&self) -> &Tapes {
        &self.tapes
    }

    /// Raised when answers that follow a job are to end.
    pub(super) fn stop(&self) -> &Signal {
        &self.parts.stop
    }

    /// Jobs of this route are due.
    fn wake_for(&self, route: &ColdRoute) {
        route.more.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Jobs of any route may be due.
    fn wake_all(&self) {
        for route in self.parts.routes.load().values() {
            self.wake_for(route);
        }
    }

    fn route(&self, name: &str) -> Option<Arc<ColdRoute>> {
        self.parts.routes.load().get(name).cloned()
    }

    /// Runs due jobs and ends overdue ones until it is cancelled.
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
            // What is taken without a lease or before an end would only be taken again by others.
            let may = self.lease.holds() && !self.parts.stop.is_raised();
            held = if may { self.claim(all).await } else { None };
            if !all {
                continue;
            }
            steps += 1;
            if steps.is_multiple_of(4) {
                self.expire().await;
                self.give_back_strays().await;
            }
        }
    }

    /// What is older has passed its retention.
    pub(super) fn past(&self) -> UnixMillis {
        let kept = i64::try_from(self.parts.retention.as_millis()).unwrap_or(i64::MAX);
        UnixMillis(UnixMillis::now().0.saturating_sub(kept))
    }

    /// Whether what was kept then is past its retention.
    pub fn is_past(&self, at: UnixMillis) -> bool {
        at < self.past()
    }

    async fn expire(&self) {
        // What runs here ends by itself, by a clock that nobody sets: what it has by then is kept.
        let step = STEP + self.runs.count();
        let overdue = self.parts.store.overdue(step, UnixMillis::now()).await;
        let overdue = overdue.unwrap_or_default().into_iter();
        for id in overdue.filter(|id| !self.runs.has(id)) {
            let _ = self.end(&id, Outcome::expired()).await;
        }
    }

    /// Whether a job that was taken is still ours to run. A store that cannot say so is no reason
    /// to leave it.
    async fn still_runs(&self, taken: &Job) -> bool {
        let ours = |job: Job| job.status == Status::Running && job.fence == taken.fence;
        let found = self.parts.store.get(&taken.id).await;
        found.map_or(true, |job| job.is_some_and(ours))
    }

    /// Begins to drive a job's attempts, for as long as the job may take.
    fn drive(
        &self,
        job: &Job,
        attempts: Attempts,
        began: UnixMillis,
        until: Instant,
        span: Option<Box<work::Run>>,
    ) -> Driven {
        let tape = self.tapes.of(&job.id);
        let run = Run::begin(job, attempts.tried(), began).traced(span);
        Driven::new(run, attempts, self.parts.answer_limit, tape, until)
    }

    /// Attempts that do not go on are cancelled, and leave nothing to be read.
    fn give_up(&self, job: &Job, driven: Option<Driven>) {
        drop(driven);
        let tape = self.tapes.of(&job.id);
        self.tapes.left(&job.id, &tape);
    }

    /// Runs a job to its end, or back into the queue, unless it is stopped. `stop` was there before
    /// anybody could hear of the job's start. What became of its attempts is written with it.
    async fn run(
        self: Arc<Self>,
        job: Box<Job>,
        driven: Driven,
        route: Arc<ColdRoute>,
        stop: Stop,
    ) {
        let (mut run, tape, ended) = driven.into_parts();
        tape.touch();
        let (ended, by) = tokio::select! {
            biased;
            // Whoever stopped it has written its end, or runs it.
            why = stop.stopped() => {
                if why == Why::Taken {
                    tape.clear();
                }
                self.tapes.left(&job.id, &tape);
                let verdict = Verdict::stopped(why);
                tried(&self.parts.meter, &route.name, verdict.result).increment(1);
                run.ends(None, &verdict, None);
                let _ = self.parts.store.note(&job.id, run.records(None, &verdict)).await;
                return;
            }
            ended = ended => ended,
        };
        let (verdict, answer) = match &ended {
            Ended::With(outcome) => (Verdict::of(outcome), outcome.answer.as_ref()),
            Ended::Again(failure) => {
                let (answer, error) = (failure.answer.as_ref(), Some(&failure.error));
                (Verdict::with("retried", answer, error), answer)
            }
            Ended::Later(_) => (Verdict::rate_limited(), None),
        };
        tried(&self.parts.meter, &route.name, verdict.result).increment(1);
        run.ends(by.as_ref(), &verdict, answer);
        // Asked for together, they share a commit.
        let note = self
            .parts
            .store
            .note(&job.id, run.records(by.as_ref(), &verdict));
        // Boxed: a job that runs has no room yet for how it ends.
        let settled = Box::pin(self.settle(&job, &stop, ended, &route));
        let (noted, ()) = tokio::join!(note, settled);
        tape.touch();
        self.tapes.left(&job.id, &tape);
        if let Err(error) = noted {
            tracing::warn!(%error, job = job.id.as_str(), "an attempt is missing in a job's history");
        }
    }
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

#[cfg(test)]
mod tests {
    use super::Runner;
    use crate::weight::{any, at_most, of};

    #[test]
    fn a_job_that_runs_is_small() {
        let run = || Runner::run(any(), any(), any(), any(), any());
        at_most(1_024, of(run));
    }
}
