//! Jobs in memory, for tests on virtual time: SQLite's writer is a thread, and a paused clock
//! runs away while it works.
//!
//! Promises: what every store promises (it passes the same suite), with what was kept in place of
//! a disk; each operation may take virtual time. Nothing in it is sealed.

mod deliveries;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::deliveries::Told;
use super::{
    Beat, By, ClaimedJob, Delivery, DeliveryOutcome, ListQuery, NewsFeed, Outcome, Store,
    StoreError, StoreFuture,
};
use crate::cold::history::{AttemptRecord, KEPT, Run};
use crate::cold::job::{
    CallbackStatus, Job, JobId, Owner, Status, StoredAnswer, StoredRequest, UnixMillis,
};
use crate::cold::recall;

/// What outlives a store; clones share it.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Rows>>);

/// A store over what is kept.
pub struct MemoryStore {
    kept: Kept,
    queue_limit: u64,
    begun: AtomicBool,
    delay: Box<dyn Fn() -> Duration + Send + Sync>,
}

/// A job with all that belongs to it.
#[derive(Clone)]
pub struct Row {
    /// The job.
    pub job: Job,
    /// What was sent.
    pub request: StoredRequest,
    /// Its answer.
    pub answer: Option<StoredAnswer>,
    history: Vec<AttemptRecord>,
    due: UnixMillis,
    delivery: Option<Told>,
}

impl Row {
    /// Whether it has an answer that succeeded.
    pub fn answer_is_whole(&self) -> bool {
        let status = self.answer.as_ref().map(|answer| answer.status);
        status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Rows by their order of arrival, and what the queue is asked for.
#[derive(Default)]
struct Rows {
    all: BTreeMap<u64, Row>,
    names: HashMap<JobId, u64>,
    queued: HashMap<String, BTreeSet<(UnixMillis, u64)>>,
    unfinished: BTreeSet<(UnixMillis, u64)>,
    keys: HashMap<[u8; 32], recall::Kept>,
    next: u64,
}

fn may_retry(job: &Job) -> bool {
    job.status.is_final() && job.status != Status::Succeeded
}

impl Rows {
    fn row(&mut self, id: &JobId) -> Option<(u64, &mut Row)> {
        let at = *self.names.get(id)?;
        Some((at, self.all.get_mut(&at)?))
    }

    /// Moves a job between the states that are not final.
    fn moves(&mut self, at: u64, status: Status, due: UnixMillis) {
        let Some(row) = self.all.get_mut(&at) else {
            return;
        };
        let queue = self.queued.entry(row.job.route.clone()).or_default();
        queue.remove(&(row.due, at));
        (row.job.status, row.due) = (status, due);
        if status == Status::Queued {
            queue.insert((due, at));
        }
    }

    fn insert(&mut self, job: Job, request: StoredRequest) {
        let at = self.next;
        self.next += 1;
        let (status, due) = (job.status, job.created_at);
        self.names.insert(job.id.clone(), at);
        self.unfinished.insert((job.expires_at, at));
        let delivery = job.callback.is_some().then(Told::new);
        let row = Row {
            job,
            request,
            answer: None,
            history: Vec::new(),
            due,
            delivery,
        };
        self.all.insert(at, row);
        self.moves(at, status, due);
    }

    fn claim(&mut self, route: &str, limit: usize, now: UnixMillis) -> Vec<ClaimedJob> {
        let queue = self.queued.get(route).into_iter().flatten();
        let due: Vec<_> = queue
            .take_while(|(due, _)| *due <= now)
            .take(limit)
            .copied()
            .collect();
        let claim = |(due, at): (UnixMillis, u64)| {
            self.moves(at, Status::Running, due);
            let row = self.all.get_mut(&at)?;
            row.job.attempts += 1;
            row.job.fence += 1;
            Some(ClaimedJob {
                job: row.job.clone(),
                request: row.request.clone(),
            })
        };
        due.into_iter().filter_map(claim).collect()
    }

    fn finish(&mut self, id: &JobId, by: By, outcome: Outcome, now: UnixMillis) -> Option<Job> {
        let (at, row) = self.row(id)?;
        if row.job.status.is_final() || !by.may_end(&row.job) {
            return None;
        }
        row.job.finished_at = Some(now);
        row.job.error = outcome.error;
        row.answer = outcome.answer;
        if let Some(told) = &mut row.delivery {
            told.due = Some(now);
        }
        let (due, expires_at) = (row.due, row.job.expires_at);
        self.moves(at, outcome.status, due);
        self.unfinished.remove(&(expires_at, at));
        Some(self.all.get(&at)?.job.clone())
    }

    fn retry(&mut self, id: &JobId, now: UnixMillis, expires_at: UnixMillis) -> Option<Job> {
        let (at, row) = self.row(id)?;
        if !may_retry(&row.job) {
            return None;
        }
        (row.job.finished_at, row.job.error, row.answer) = (None, None, None);
        (row.job.attempts, row.job.expires_at) = (0, expires_at);
        row.job.fence += 1;
        if let (Some(callback), Some(delivery)) = (&mut row.job.callback, &mut row.delivery) {
            (callback.status, callback.deliveries) = (CallbackStatus::Pending, 0);
            callback.last_error = None;
            *delivery = Told::new();
        }
        self.unfinished.insert((expires_at, at));
        self.moves(at, Status::Queued, now);
        Some(self.all.get(&at)?.job.clone())
    }

    fn requeue(&mut self, now: UnixMillis) -> u64 {
        let mut running = Vec::new();
        for (at, row) in &mut self.all {
            if let Some(told) = row.delivery.as_mut().filter(|told| told.claimed) {
                (told.due, told.claimed) = (Some(now), false);
            }
            if row.job.status == Status::Running {
                let lost = Run::lost(row.job.attempts.max(1), now);
                row.history.push(lost);
                running.push(*at);
            }
        }
        for at in &running {
            self.moves(*at, Status::Queued, now);
        }
        running.len() as u64
    }

    fn sweep(&mut self, limit: usize, before: UnixMillis) -> u64 {
        let told = |row: &Row| {
            let callback = row.job.callback.as_ref();
            let died = row.delivery.as_ref().and_then(|told| told.died);
            callback.is_none_or(|one| one.status != CallbackStatus::Pending)
                && died.is_none_or(|died| died < before)
        };
        let old = |row: &Row| row.job.finished_at.filter(|at| *at < before && told(row));
        let mut found: Vec<_> = self
            .all
            .iter()
            .filter_map(|(at, row)| Some((old(row)?, *at)))
            .collect();
        found.sort_unstable();
        found.truncate(limit);
        for (_, at) in &found {
            if let Some(row) = self.all.remove(at) {
                self.names.remove(&row.job.id);
            }
        }
        let mut keys: Vec<_> = self.keys.values().filter(|kept| kept.at < before).collect();
        keys.sort_unstable_by_key(|kept| kept.at);
        let keys: Vec<_> = keys.iter().take(limit).map(|kept| kept.key.name).collect();
        for name in &keys {
            self.keys.remove(name);
        }
        (found.len() + keys.len()) as u64
    }

    fn list(&self, query: &ListQuery) -> Vec<Job> {
        let before = query.after.as_ref().and_then(|id| self.names.get(id));
        let before = before.copied().unwrap_or(u64::MAX);
        let wanted = |job: &Job| {
            let owns = |owner: Owner| job.owner == owner;
            query.owner.is_none_or(owns)
                && query.status.is_none_or(|status| job.status == status)
                && query.route.as_ref().is_none_or(|route| job.route == *route)
        };
        let rows = self.all.range(..before).rev().map(|(_, row)| &row.job);
        let limit = query.limit.min(1_000);
        rows.filter(|job| wanted(job))
            .take(limit)
            .cloned()
            .collect()
    }
}

impl Kept {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, in the order of arrival.
    pub fn everything(&self) -> Vec<Row> {
        self.rows().all.values().cloned().collect()
    }
}

impl MemoryStore {
    /// A store over what was kept; it takes no time.
    pub fn open(kept: &Kept, queue_limit: u64) -> Self {
        Self {
            kept: kept.clone(),
            queue_limit,
            begun: AtomicBool::new(false),
            delay: Box::new(|| Duration::ZERO),
        }
    }

    /// The same, where an operation takes so long, half of it after it was done.
    #[must_use]
    pub fn taking(self, delay: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            delay: Box::new(delay),
            ..self
        }
    }

    fn run<T, F>(&self, work: F) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Rows) -> Result<T, StoreError> + Send + 'static,
    {
        let half = (self.delay)() / 2;
        Box::pin(async move {
            if half.is_zero() {
                return work(&mut self.kept.rows());
            }
            tokio::time::sleep(half).await;
            let done = work(&mut self.kept.rows());
            tokio::time::sleep(half).await;
            done
        })
    }
}

impl Store for MemoryStore {
    fn insert(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()> {
        let limit = self.queue_limit;
        self.run(move |rows| {
            if rows.unfinished.len() as u64 >= limit {
                return Err(StoreError::QueueFull { limit });
            }
            rows.insert(job, request);
            Ok(())
        })
    }

    fn claim(
        &self,
        route: &str,
        limit: usize,
        now: UnixMillis,
    ) -> StoreFuture<'_, Vec<ClaimedJob>> {
        let route = route.to_owned();
        self.run(move |rows| Ok(rows.claim(&route, limit, now)))
    }

    fn release(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.run(move |rows| {
            if let Some((row, Row { job, .. })) = rows.row(&id)
                && job.status == Status::Running
                && job.fence == fence
            {
                rows.moves(row, Status::Queued, at);
            }
            Ok(())
        })
    }

    fn postpone(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.run(move |rows| {
            if let Some((row, Row { job, .. })) = rows.row(&id)
                && job.status == Status::Running
                && job.fence == fence
            {
                job.attempts = job.attempts.saturating_sub(1);
                rows.moves(row, Status::Queued, at);
            }
            Ok(())
        })
    }

    fn keep(&self, kept: recall::Kept) -> StoreFuture<'_, ()> {
        self.run(move |rows| {
            let before = rows.keys.get(&kept.key.name);
            if before.is_none_or(|before| before.key.print == kept.key.print) {
                rows.keys.insert(kept.key.name, kept);
            }
            Ok(())
        })
    }

    fn kept(&self, name: [u8; 32]) -> StoreFuture<'_, Option<recall::Kept>> {
        self.run(move |rows| Ok(rows.keys.get(&name).cloned()))
    }

    fn jobs_in(&self, owner: Owner, scope: &str, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        let scope = scope.to_owned();
        self.run(move |rows| {
            let ours = |job: &&Job| {
                job.owner == owner
                    && job.scope.as_deref() == Some(&*scope)
                    && !job.status.is_final()
            };
            let all = rows.all.values().rev().map(|row| &row.job);
            Ok(all.filter(ours).take(limit).cloned().collect())
        })
    }

    fn finish(
        &self,
        id: &JobId,
        by: By,
        outcome: Outcome,
        now: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        self.run(move |rows| Ok(rows.finish(&id, by, outcome, now)))
    }

    fn get(&self, id: &JobId) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        self.run(move |rows| Ok(rows.row(&id).map(|(_, row)| row.job.clone())))
    }

    fn answer(&self, id: &JobId) -> StoreFuture<'_, Option<StoredAnswer>> {
        let id = id.clone();
        self.run(move |rows| Ok(rows.row(&id).and_then(|(_, row)| row.answer.clone())))
    }

    fn list(&self, query: ListQuery) -> StoreFuture<'_, Vec<Job>> {
        self.run(move |rows| Ok(rows.list(&query)))
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(String, Status, u64)>> {
        self.run(|rows| {
            let mut counts: BTreeMap<(String, &str), (Status, u64)> = BTreeMap::new();
            for row in rows.all.values() {
                let key = (row.job.route.clone(), row.job.status.as_str());
                counts.entry(key).or_insert((row.job.status, 0)).1 += 1;
            }
            let one = |((route, _), (status, count))| (route, status, count);
            Ok(counts.into_iter().map(one).collect())
        })
    }

    fn claim_deliveries(
        &self,
        limit: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> StoreFuture<'_, Vec<Delivery>> {
        self.run(move |rows| Ok(rows.claim_deliveries(limit, now, until)))
    }

    fn delivered(&self, webhook_id: &str, outcome: DeliveryOutcome) -> StoreFuture<'_, ()> {
        let name = webhook_id.to_owned();
        self.run(move |rows| {
            rows.delivered(&name, outcome);
            Ok(())
        })
    }

    fn dead_deliveries(&self, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        self.run(move |rows| Ok(rows.dead(limit.min(1_000))))
    }

    fn count_dead(&self) -> StoreFuture<'_, u64> {
        self.run(|rows| Ok(rows.dead(usize::MAX).len() as u64))
    }

    fn replay_delivery(&self, id: &JobId, now: UnixMillis) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        self.run(move |rows| Ok(rows.replay(&id, now)))
    }

    fn note(&self, id: &JobId, records: Vec<AttemptRecord>) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.run(move |rows| {
            if let Some((_, row)) = rows.row(&id) {
                row.history.extend(records);
                let over = row.history.len().saturating_sub(KEPT as usize);
                row.history.drain(..over);
            }
            Ok(())
        })
    }

    fn history(&self, id: &JobId) -> StoreFuture<'_, Vec<AttemptRecord>> {
        let id = id.clone();
        self.run(move |rows| {
            let found = rows.row(&id).map(|(_, row)| row.history.clone());
            Ok(found.unwrap_or_default())
        })
    }

    fn retry(
        &self,
        id: &JobId,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        let (id, limit) = (id.clone(), self.queue_limit);
        self.run(move |rows| {
            let full = rows.unfinished.len() as u64 >= limit;
            if full && rows.row(&id).is_some_and(|(_, row)| may_retry(&row.job)) {
                return Err(StoreError::QueueFull { limit });
            }
            Ok(rows.retry(&id, now, expires_at))
        })
    }

    fn beat(&self, _: Duration, now: UnixMillis) -> StoreFuture<'_, Beat> {
        if self.begun.swap(true, Ordering::Relaxed) {
            return Box::pin(async { Ok(Beat::default()) });
        }
        self.run(move |rows| {
            let rescued = rows.requeue(now);
            Ok(Beat {
                lost: false,
                rescued,
            })
        })
    }

    fn leave(&self, now: UnixMillis) -> StoreFuture<'_, u64> {
        self.run(move |rows| Ok(rows.requeue(now)))
    }

    fn news(&self) -> Option<NewsFeed> {
        None
    }

    fn overdue(&self, limit: usize, now: UnixMillis) -> StoreFuture<'_, Vec<JobId>> {
        self.run(move |rows| {
            let due = rows.unfinished.iter().take_while(|(at, _)| *at <= now);
            let id = |(_, at): &(UnixMillis, u64)| Some(rows.all.get(at)?.job.id.clone());
            Ok(due.filter_map(id).take(limit).collect())
        })
    }

    fn sweep(&self, limit: usize, before: UnixMillis) -> StoreFuture<'_, u64> {
        self.run(move |rows| Ok(rows.sweep(limit, before)))
    }

    fn ready(&self) -> StoreFuture<'_, ()> {
        self.run(|_| Ok(()))
    }
}
