//! Where jobs are kept. One trait; each store passes the same suite.
//!
//! Promises: a write that resolved is durable; a final state never changes; the final state and
//! the callback that tells it are written together; of two gateways that run the same job only the
//! one that took it last can write its end. Never holds credentials in clear.
//!
//! Each open store is one gateway. What it runs belongs to it as long as its lease lasts (`beat`;
//! Gray and Cheriton, Leases, SOSP 1989): a gateway that died loses its jobs to the others when its
//! lease ends. A job's fence counts how often it was taken to be run, so that whoever lost it without
//! knowing is refused (Kleppmann, How to do distributed locking, 2016).

pub(crate) mod lines;
#[cfg(test)]
pub mod memory;
mod patience;
pub mod postgres;
pub mod sealed;
pub mod sqlite;
#[cfg(test)]
pub(super) mod suite;
mod unreadable;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::patience::{asked, page};
use super::history::AttemptRecord;
use super::job::{Job, JobError, JobId, Owner, Status, StoredAnswer, StoredRequest, UnixMillis};
use super::recall::Kept;
use super::shares::Shares;

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// As many unfinished jobs as `cold.queue_limit`.
    #[error(
        "the queue holds {limit} unfinished jobs already; wait for some to finish or raise cold.queue_limit"
    )]
    QueueFull {
        /// The limit.
        limit: u64,
    },
    /// The store cannot be reached or written.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It did not answer in time: what it was asked for may be done yet.
    #[error("the store is not available: it did not answer in time; send the call again later")]
    Silent,
    /// What it keeps does not open, or is not whole.
    #[error("what the store keeps of it cannot be read: {0}")]
    Unreadable(String),
}

/// What every store operation resolves to.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A job taken to be run. One that carries an error cannot be: the error says why.
#[derive(Clone, Debug)]
pub struct ClaimedJob {
    /// The job, with this attempt counted.
    pub job: Job,
    /// What is to be sent.
    pub request: StoredRequest,
}

/// Unfinished jobs among which the one that waited longest is looked for: as many as `cold.queue_limit` has by default.
pub const LOOKED_AT: usize = 10_000;

/// Who writes a job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The run that took the job with this fence: refused where another took it since.
    Run(u64),
    /// Whoever may end it however often it was taken: its caller, an operator, its deadline.
    Order,
    /// The gateway that refused its caller before it was known to be written: nobody heard of it, so
    /// its callback goes with it.
    Refused,
}

impl By {
    /// Whether the job was not taken by another run since.
    #[cfg(test)]
    pub fn may_end(self, job: &Job) -> bool {
        match self {
            Self::Run(fence) => job.fence == fence,
            Self::Order | Self::Refused => true,
        }
    }
}

/// What a heartbeat found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// This gateway's lease had ended and what it ran was queued again: its runs are refused once
    /// somebody took them. One that ended and that nobody noticed is only renewed.
    pub lost: bool,
    /// Jobs queued again, of gateways whose lease had ended.
    pub rescued: u64,
}

/// What another gateway wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A job of this route may be due.
    Due(String),
    /// A job began, rests or has something new to tell.
    Changed(JobId),
    /// A job ended.
    Ended(JobId),
    /// A callback is due.
    Callback,
    /// Something may have been missed: look at everything.
    Missed,
}

/// Brings news until the store is closed.
pub type NewsFeed = tokio::sync::mpsc::Receiver<News>;

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A final status.
    pub status: Status,
    /// The answer, if there is one.
    pub answer: Option<StoredAnswer>,
    /// The reason, if it failed.
    pub error: Option<JobError>,
}

impl Outcome {
    /// The provider's answer, or none that could be had.
    pub fn failed(error: JobError, answer: Option<StoredAnswer>) -> Self {
        Self {
            status: Status::Failed,
            answer,
            error: Some(error),
        }
    }

    /// Somebody wanted it so.
    pub fn cancelled(error: JobError) -> Self {
        Self {
            status: Status::Cancelled,
            ..Self::failed(error, None)
        }
    }

    /// It passed its deadline.
    pub fn expired() -> Self {
        let error = JobError::new("expired", "the job passed its route's cold.deadline");
        Self {
            status: Status::Expired,
            ..Self::failed(error, None)
        }
    }
}

/// A callback to be delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// `webhook-id`, the same for every delivery of a job.
    pub webhook_id: String,
    /// When its schedule began: the job's end, or the replay.
    pub since: UnixMillis,
    /// The job in its final state; its callback names the address and counts deliveries so far.
    pub job: Job,
}

/// What came of a delivery.
#[derive(Clone, Debug)]
pub enum DeliveryOutcome {
    /// A 2xx.
    Delivered,
    /// To be tried again.
    Later {
        /// When.
        at: UnixMillis,
        /// Why it failed.
        error: String,
    },
    /// Not tried: its receiver is busy or rests. It does not count.
    PutOff {
        /// When it is due again.
        at: UnixMillis,
        /// Why, if that is to be told; else the last error stands.
        why: Option<String>,
    },
    /// Given up.
    Dead {
        /// When.
        at: UnixMillis,
        /// Why.
        error: String,
    },
}

/// Which jobs to list: newest first.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only this caller's; `None`: an operator asks.
    pub owner: Option<Owner>,
    /// Only in this state.
    pub status: Option<Status>,
    /// Only of this route.
    pub route: Option<String>,
    /// At most so many; a store caps it at 1,001: a page, and one that says whether there are more.
    pub limit: usize,
    /// Only those older than this one.
    pub after: Option<JobId>,
}

/// A store of jobs.
pub trait Store: Send + Sync + 'static {
    /// Keeps a new job, `Running` (its first attempt goes on here, under this gateway's lease) or
    /// `Queued`; durable when it resolves. Jobs that arrive together share one commit.
    fn insert(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()>;

    /// The same for a job that a key leads to: one that is written after all, though that was told to
    /// have failed, is not taken back. Somebody may have found it; it is queued.
    fn insert_keyed(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()> {
        self.insert(job, request)
    }

    /// Takes up to `limit` queued jobs of `route` that are due, under this gateway's lease: they run,
    /// with one more attempt and the next fence. No job is given to two gateways. Callers take turns,
    /// from one claim to the next; of one caller's jobs the highest priority goes first, then the
    /// oldest deadline, then arrival.
    fn claim(&self, route: &str, limit: usize, now: UnixMillis)
    -> StoreFuture<'_, Vec<ClaimedJob>>;

    /// Routes of which a claim would take jobs now: one look for all of them, which writes nothing.
    fn due(&self, now: UnixMillis) -> StoreFuture<'_, Vec<String>>;

    /// By these shares callers take turns from now on; until it is told, all are equal.
    fn share_out(&self, shares: Shares);

    /// Puts a job back, due at `at`. Nothing happens unless it runs under this fence.
    fn release(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()>;

    /// Puts a job back, due at `at`, as if it had not been tried: the last attempt does not count.
    /// Nothing happens unless it runs under this fence.
    fn postpone(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()>;

    /// Puts back, due at `now` and as if they had not been tried, the jobs that run under this
    /// gateway's lease but are not `held` under their fence: a claim whose reply was lost took
    /// them. Resolves to how many.
    fn strays(&self, held: Vec<(JobId, u64)>, now: UnixMillis) -> StoreFuture<'_, u64>;

    /// Writes a final state, and with it the callback's first delivery, due now, but for a job that
    /// nobody heard of (`By::Refused`), which keeps none. Resolves to the
    /// job as it then stands, its request still kept for a retry, or `None` where it was final
    /// already (the first stands), is unknown, or was taken by another run since.
    fn finish(
        &self,
        id: &JobId,
        by: By,
        outcome: Outcome,
        now: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>>;

    /// A job.
    fn get(&self, id: &JobId) -> StoreFuture<'_, Option<Job>>;

    /// A job's answer.
    fn answer(&self, id: &JobId) -> StoreFuture<'_, Option<StoredAnswer>>;

    /// Bytes of the body of a job's answer; at most `seal::OVERHEAD` more. Told without reading it.
    fn answer_size(&self, id: &JobId) -> StoreFuture<'_, Option<u64>>;

    /// Jobs.
    fn list(&self, query: ListQuery) -> StoreFuture<'_, Vec<Job>>;

    /// A caller's unfinished jobs in a scope, newest first.
    fn jobs_in(&self, owner: Owner, scope: &str, limit: usize) -> StoreFuture<'_, Vec<Job>>;

    /// How many jobs stand where: route, status, count.
    fn counts(&self) -> StoreFuture<'_, Vec<(String, Status, u64)>>;

    /// Since when the job of each route that waited longest could run; among the `LOOKED_AT` unfinished
    /// jobs whose deadlines are nearest, so that it costs the same however many wait.
    fn oldest(&self, now: UnixMillis) -> StoreFuture<'_, Vec<(String, UnixMillis)>>;

    /// Takes up to `limit` deliveries that are due. They are not handed out again until
    /// `delivered` was told or `until` has passed (a crash in between delivers again, under the
    /// same id).
    fn claim_deliveries(
        &self,
        limit: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> StoreFuture<'_, Vec<Delivery>>;

    /// Writes what came of a delivery. What was acknowledged stays so, and what was given up can
    /// only be acknowledged: somebody late changes neither.
    fn delivered(&self, webhook_id: &str, outcome: DeliveryOutcome) -> StoreFuture<'_, ()>;

    /// Jobs whose callback was given up, the last given up first; at most 1,000.
    fn dead_deliveries(&self, limit: usize) -> StoreFuture<'_, Vec<Job>>;

    /// How many callbacks were given up.
    fn count_dead(&self) -> StoreFuture<'_, u64>;

    /// Begins a finished job's delivery anew, whatever came of it: due now, under the same
    /// `webhook-id`, with the schedule from its start. `None`: there is no such job or callback,
    /// or a delivery of it runs at this moment.
    fn replay_delivery(&self, id: &JobId, now: UnixMillis) -> StoreFuture<'_, Option<Job>>;

    /// Adds attempts that ended to a job's history, which holds the newest `history::KEPT`.
    fn note(&self, id: &JobId, records: Vec<AttemptRecord>) -> StoreFuture<'_, ()>;

    /// A job's history, oldest first.
    fn history(&self, id: &JobId) -> StoreFuture<'_, Vec<AttemptRecord>>;

    /// Queues a job that failed, expired or was cancelled once more: due now, no attempt made,
    /// without its answer, under the next fence (a run of before is refused); its next end is told
    /// under a new `webhook-id`. `None`: it is in no such state, or its request is not kept any more.
    fn retry(
        &self,
        id: &JobId,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>>;

    /// Renews this gateway's lease for so long from now, by the store's own clock, and queues what
    /// gateways whose lease has ended ran and delivered: due at `now`, their fences as they are.
    /// One whose own lease had ended unnoticed only renews it, so that after an outage of the store
    /// all who live come back before any is taken for dead. The first comes before any other write;
    /// a store that only one gateway can open takes whatever it then finds running for a dead
    /// gateway's.
    fn beat(&self, lease: Duration, now: UnixMillis) -> StoreFuture<'_, Beat>;

    /// Ends this gateway's lease: what it ran and delivered is queued again, due at `now`. Resolves
    /// to how many jobs.
    fn leave(&self, now: UnixMillis) -> StoreFuture<'_, u64>;

    /// What other gateways write from now on. `None`: there are none, or it was asked for before.
    fn news(&self) -> Option<NewsFeed>;

    /// Unfinished jobs past their `expires_at`: at most `limit` names.
    fn overdue(&self, limit: usize, now: UnixMillis) -> StoreFuture<'_, Vec<JobId>>;

    /// Keeps what became of a call under its key; durable when it resolves. What was kept of the
    /// same call before is replaced; what the key stands for of another call stays.
    fn keep(&self, kept: Kept) -> StoreFuture<'_, ()>;

    /// Frees a key whose name stands for what was kept before `before`.
    fn forget(&self, name: [u8; 32], before: UnixMillis) -> StoreFuture<'_, ()>;

    /// What is kept under the name of a key.
    fn kept(&self, name: [u8; 32]) -> StoreFuture<'_, Option<Kept>>;

    /// Deletes, in a few milliseconds, up to `limit` jobs that finished before `before` and whose
    /// callback is not pending nor was given up since, and as many answers that were kept under a
    /// key before. Resolves to how many; none: nothing old is left for now.
    fn sweep(&self, limit: usize, before: UnixMillis) -> StoreFuture<'_, u64>;

    /// Resolves while the store can be written.
    fn ready(&self) -> StoreFuture<'_, ()>;
}

/// A store that many tasks share.
pub type SharedStore = Arc<dyn Store>;
