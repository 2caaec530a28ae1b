//! What may have been written though its answer was lost: undone at the next claim or heartbeat.
//!
//! Promises: a job that was refused to its caller does not run; a job that was taken for nobody is
//! queued again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::link::{Fault, Session};
use crate::cold::job::{JobId, UnixMillis};

/// Doubtful writes.
#[derive(Default)]
pub(super) struct Doubts(Mutex<Open>);

#[derive(Default)]
struct Open {
    inserts: Vec<(Instant, String)>,
    claims: Vec<(Instant, i64)>,
}

/// A doubt is looked after for so long: what was sent may still be done after its connection was
/// lost.
const LATEST: Duration = Duration::from_mins(2);

/// A claim on its way: in doubt unless its answer came.
pub(super) struct Claim<'a> {
    doubts: &'a Doubts,
    /// Its number.
    pub number: i64,
    open: bool,
}

impl Claim<'_> {
    /// Its answer came, or it was never sent.
    pub fn known(mut self) {
        self.open = false;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.open {
            let began = Instant::now();
            self.doubts.open().claims.push((began, self.number));
        }
    }
}

// An attempt that nobody made does not count.
const UNCLAIM: &str = "update shunt.jobs set status = 'queued', ready = false, due = $3, gateway = null, \
    claim = null, attempts = greatest(attempts - 1, 0) \
    where gateway = $1 and claim = any($2::bigint[]) and status = 'running'";

const UNINSERT: &str = "with gone as (delete from shunt.jobs where id = any($1::text[]) \
    and finished_at is null and fence <= 1 returning id), \
    asked as (delete from shunt.requests where job_id in (select id from gone)) \
    delete from shunt.deliveries where job_id in (select id from gone)";

impl Doubts {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new job that may be there.
    pub fn insert(&self, id: &JobId) {
        let name = id.as_str().to_owned();
        self.open().inserts.push((Instant::now(), name));
    }

    /// A new job that was written after all, as its caller asked once more.
    pub fn is_there(&self, id: &JobId) {
        let mut open = self.open();
        if !open.inserts.is_empty() {
            open.inserts.retain(|(_, name)| name != id.as_str());
        }
    }

    /// A claim that begins.
    pub fn claim(&self) -> Claim<'_> {
        Claim {
            doubts: self,
            number: rand::random(),
            open: true,
        }
    }

    /// Undoes what is in doubt.
    pub async fn resolve(
        &self,
        session: &Session,
        gateway: i64,
        now: UnixMillis,
    ) -> Result<(), Fault> {
        let (inserts, claims) = self.all();
        if inserts.is_empty() && claims.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        undo(session, gateway, now, (&inserts, &claims)).await?;
        let mut open = self.open();
        let young = |at: Instant| began.saturating_duration_since(at) < LATEST;
        open.inserts.retain(|(at, _)| young(*at));
        open.claims.retain(|(at, _)| young(*at));
        Ok(())
    }

    fn all(&self) -> (Vec<String>, Vec<i64>) {
        let open = self.open();
        let inserts = open.inserts.iter().map(|(_, name)| name.clone());
        (
            inserts.collect(),
            open.claims.iter().map(|(_, one)| *one).collect(),
        )
    }
}

async fn undo(
    session: &Session,
    gateway: i64,
    now: UnixMillis,
    (inserts, claims): (&Vec<String>, &Vec<i64>),
) -> Result<(), Fault> {
    if !claims.is_empty() {
        let (gateway, numbers) = ((&gateway as _, Type::INT8), (claims as _, Type::INT8_ARRAY));
        let values = [gateway, numbers, (&now.0 as _, Type::INT8)];
        session.ask(UNCLAIM, &values).await?;
    }
    if !inserts.is_empty() {
        let values = [(inserts as _, Type::TEXT_ARRAY)];
        session.ask(UNINSERT, &values).await?;
    }
    Ok(())
}
