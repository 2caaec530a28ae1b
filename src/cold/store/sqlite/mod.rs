//! Jobs in one SQLite file: WAL, `synchronous=FULL`, one writer thread, commits shared.
//!
//! Promises: what resolved is on disk; two gateways never share a file; no row waits for a large
//! body. Never blocks the runtime. Keeps what it is given: `Sealed` around it seals.

mod apart;
mod bodies;
mod deliveries;
mod operators;
mod order;
#[cfg(test)]
mod refusals;
mod rows;
mod sweep;
mod worker;
mod writes;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use self::bodies::{Bodies, private};
use self::worker::{Desk, Worker, unavailable};
use super::{
    Beat, By, ClaimedJob, Delivery, DeliveryOutcome, ListQuery, NewsFeed, Outcome, Store,
    StoreError, StoreFuture,
};
use crate::cold::history::AttemptRecord;
use crate::cold::job::{Job, JobId, Owner, Status, StoredAnswer, StoredRequest, UnixMillis};
use crate::cold::recall::Kept;
use crate::cold::shares::{Shares, Turns};

/// A store in a file.
pub struct SqliteStore {
    writer: Worker,
    reader: Worker,
    /// Reads what looks at many rows: no single job waits for it.
    lister: Worker,
    bodies: Bodies,
    turns: Arc<Turns>,
    queue_limit: u64,
    /// What the last process left running was queued again.
    begun: AtomicBool,
    /// Held as long as the store is open; the system frees it when the process dies.
    _lock: File,
}

/// The queries of the queue, and the partial index that each must be answered by.
#[cfg(test)]
pub(super) const QUEUE_QUERIES: [(&str, &str); 14] = [
    (order::PROMOTE, "jobs_later"),
    (order::CALLERS, "jobs_ready"),
    (order::NEXT, "jobs_ready"),
    (order::READY_ROUTES, "jobs_ready"),
    (order::DUE_ROUTES, "jobs_later"),
    (deliveries::DUE, "deliveries_due"),
    (deliveries::DEAD, "deliveries_dead"),
    (writes::SCOPE, "jobs_scope"),
    (writes::RUNNING, "jobs_running"),
    (writes::REQUEUE, "jobs_running"),
    (writes::UNCLAIM, "deliveries_claimed"),
    (operators::LOST, "jobs_running"),
    (operators::OLDEST, "jobs_expiry"),
    (sweep::OLD, "jobs_finished"),
];

/// The queries of a claim.
#[cfg(test)]
pub(super) const CLAIM: [&str; 3] = [order::PROMOTE, order::CALLERS, order::NEXT];

/// What brings a file from one version of its schema to the next.
pub(super) const STEPS: [&str; 11] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
    include_str!("schema_9.sql"),
    include_str!("schema_10.sql"),
    include_str!("schema_11.sql"),
];

/// Jobs in one list at most.
const LIST: usize = 1_000;

/// A file that stands beside a store.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn told(path: &Path, what: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("{}: {what}", path.display()))
}

impl SqliteStore {
    /// Opens a file, or makes it. Beside it stand `.lock` and `-bodies`, the file of large bodies.
    ///
    /// # Errors
    /// A sentence: the folder cannot be written, or another gateway has the file.
    pub fn open(path: &Path, queue_limit: u64) -> Result<Self, StoreError> {
        let lock = File::create(beside(path, ".lock")).map_err(|error| told(path, error))?;
        lock.try_lock().map_err(|_| {
            told(
                path,
                "another gateway has this store; give each its own cold.store",
            )
        })?;
        let failed = |error: rusqlite::Error| told(path, error);
        private(path)?;
        let connection = Connection::open(path).map_err(failed)?;
        prepare(path, &connection)?;
        let writer = Desk::new(connection);
        let turns = writer.turns.clone();
        writer.recount();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = || Connection::open_with_flags(path, flags).map_err(failed);
        let (reader, lister) = (Desk::new(reader()?), Desk::new(reader()?));
        let start = |name, desk, grouped| {
            Worker::start(name, desk, grouped).map_err(|error| told(path, error))
        };
        Ok(Self {
            writer: start("store-writer", writer, true)?,
            reader: start("store-reader", reader, false)?,
            lister: start("store-lister", lister, false)?,
            bodies: Bodies::open(&beside(path, "-bodies"))?,
            turns,
            queue_limit,
            begun: AtomicBool::new(false),
            _lock: lock,
        })
    }

    fn write<T, F>(&self, work: F) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&Desk) -> Result<T, StoreError> + Send + 'static,
    {
        Box::pin(self.writer.run(work))
    }

    fn read<T, F>(&self, work: F) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let work = |desk: &Desk| work(&desk.connection).map_err(|error| unavailable(&error));
        Box::pin(self.reader.run(work))
    }

    fn look<T, F>(&self, work: F) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let work = |desk: &Desk| work(&desk.connection).map_err(|error| unavailable(&error));
        Box::pin(self.lister.run(work))
    }
}

/// Sets a connection up to write, and brings the file to this version's schema.
fn prepare(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let version = set_up(connection).map_err(|error| told(path, error))?;
    let done = usize::try_from(version).unwrap_or(0);
    let Some(steps) = STEPS.get(done..) else {
        return Err(told(
            path,
            "a newer gateway wrote this store; run that version, or name another cold.store",
        ));
    };
    if !steps.is_empty() {
        // All or none, and one commit instead of one each: a new file's start waits for the disk once.
        let together = || {
            let transaction = connection.unchecked_transaction()?;
            for step in steps {
                transaction.execute_batch(step)?;
            }
            transaction.commit()
        };
        together().map_err(|error| told(path, error))?;
        // The log begins empty: the steps left much in it.
        let done = connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()));
        done.map_err(|error| told(path, error))?;
    }
    Ok(())
}

/// Gives the version of the file's schema.
pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<i64> {
    // Plans do not depend on values, so that no statement is planned anew for each.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; \
         pragma busy_timeout = 5000; pragma wal_autocheckpoint = 4000; \
         pragma cache_size = -8192;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.query_row("pragma user_version", [], |row| row.get(0))
}

impl Store for SqliteStore {
    fn insert(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()> {
        Box::pin(self.insert_whole(job, request))
    }

    fn claim(
        &self,
        route: &str,
        limit: usize,
        now: UnixMillis,
    ) -> StoreFuture<'_, Vec<ClaimedJob>> {
        Box::pin(self.claim_whole(route.to_owned(), limit, now))
    }

    fn share_out(&self, shares: Shares) {
        self.turns.share_out(shares);
    }

    fn release(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.write(move |desk| writes::release(desk, &id, fence, at))
    }

    fn postpone(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.write(move |desk| writes::postpone(desk, &id, fence, at))
    }

    fn strays(&self, held: Vec<(JobId, u64)>, now: UnixMillis) -> StoreFuture<'_, u64> {
        self.write(move |desk| writes::strays(desk, &held, now))
    }

    fn finish(
        &self,
        id: &JobId,
        by: By,
        outcome: Outcome,
        now: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        Box::pin(self.finish_whole(id.clone(), by, outcome, now))
    }

    fn get(&self, id: &JobId) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        self.read(move |connection| writes::get(connection, &id))
    }

    fn answer(&self, id: &JobId) -> StoreFuture<'_, Option<StoredAnswer>> {
        Box::pin(self.whole_answer(id.clone()))
    }

    fn answer_size(&self, id: &JobId) -> StoreFuture<'_, Option<u64>> {
        Box::pin(self.whole_answer_size(id.clone()))
    }

    fn list(&self, query: ListQuery) -> StoreFuture<'_, Vec<Job>> {
        self.look(move |connection| operators::list(connection, &query))
    }

    fn jobs_in(&self, owner: Owner, scope: &str, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        let scope = scope.to_owned();
        self.read(move |connection| writes::jobs_in(connection, owner, &scope, limit))
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(String, Status, u64)>> {
        self.look(operators::counts)
    }

    fn due(&self, now: UnixMillis) -> StoreFuture<'_, Vec<String>> {
        self.read(move |connection| order::due(connection, now))
    }

    fn oldest(&self, now: UnixMillis) -> StoreFuture<'_, Vec<(String, UnixMillis)>> {
        self.look(move |connection| operators::oldest(connection, now))
    }

    fn claim_deliveries(
        &self,
        limit: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> StoreFuture<'_, Vec<Delivery>> {
        self.write(move |desk| deliveries::claim(desk, limit, now, until))
    }

    fn delivered(&self, webhook_id: &str, outcome: DeliveryOutcome) -> StoreFuture<'_, ()> {
        let id = webhook_id.to_owned();
        self.write(move |desk| deliveries::delivered(desk, &id, &outcome))
    }

    fn dead_deliveries(&self, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        self.look(move |connection| deliveries::dead(connection, limit.min(LIST)))
    }

    fn count_dead(&self) -> StoreFuture<'_, u64> {
        self.look(deliveries::count_dead)
    }

    fn replay_delivery(&self, id: &JobId, now: UnixMillis) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        self.write(move |desk| deliveries::replay(desk, &id, now))
    }

    fn note(&self, id: &JobId, records: Vec<AttemptRecord>) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.write(move |desk| operators::note(desk, &id, &records))
    }

    fn history(&self, id: &JobId) -> StoreFuture<'_, Vec<AttemptRecord>> {
        let id = id.clone();
        self.read(move |connection| operators::history(connection, &id))
    }

    fn retry(
        &self,
        id: &JobId,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        let (id, limit) = (id.clone(), self.queue_limit);
        self.write(move |desk| operators::retry(desk, limit, &id, now, expires_at))
    }

    /// The lock on the file is the lease: whoever ran a job before this process is dead.
    fn beat(&self, _: Duration, now: UnixMillis) -> StoreFuture<'_, Beat> {
        if self.begun.load(Ordering::Acquire) {
            return Box::pin(async { Ok(Beat::default()) });
        }
        Box::pin(async move {
            let rescued = self.write(move |desk| writes::requeue(desk, now)).await?;
            self.begun.store(true, Ordering::Release);
            Ok(Beat {
                lost: false,
                rescued,
            })
        })
    }

    fn leave(&self, now: UnixMillis) -> StoreFuture<'_, u64> {
        self.write(move |desk| writes::requeue(desk, now))
    }

    fn news(&self) -> Option<NewsFeed> {
        None
    }

    fn overdue(&self, limit: usize, now: UnixMillis) -> StoreFuture<'_, Vec<JobId>> {
        self.read(move |connection| {
            let sql = "select id from jobs where finished_at is null and expires_at <= ?1 \
                       order by expires_at limit ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let found =
                statement.query_map(params![now.0, limit], |row| row.get::<_, String>(0))?;
            let found: Vec<String> = found.collect::<rusqlite::Result<_>>()?;
            Ok(found.iter().filter_map(|id| JobId::parse(id)).collect())
        })
    }

    fn keep(&self, kept: Kept) -> StoreFuture<'_, ()> {
        Box::pin(self.keep_whole(kept))
    }

    fn forget(&self, name: [u8; 32], before: UnixMillis) -> StoreFuture<'_, ()> {
        self.write(move |desk| writes::forget(desk, name, before))
    }

    fn kept(&self, name: [u8; 32]) -> StoreFuture<'_, Option<Kept>> {
        Box::pin(self.whole_kept(name))
    }

    fn sweep(&self, limit: usize, before: UnixMillis) -> StoreFuture<'_, u64> {
        Box::pin(self.sweep_all(limit, before))
    }

    fn ready(&self) -> StoreFuture<'_, ()> {
        self.write(operators::probe)
    }
}
