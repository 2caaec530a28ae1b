//! What may have been written though its answer was lost: undone at the next claim or heartbeat.
//!
//! Promises: a job that was refused to its caller does not run, but where a key leads to it: that one
//! is queued; a job that was taken for nobody is queued again.

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
    /// Those that a key leads to.
    keyed: Vec<(Instant, String)>,
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

// Its attempts were given up, and no claim has taken it since.
const REQUEUE: &str = "update shunt.jobs set status = 'queued', ready = false, due = $3, gateway = null \
    where id = any($2::text[]) and status = 'running' and gateway = $1 and claim is null and fence <= 1";

impl Doubts {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new job that may be there; `keyed`: and that a key leads to.
    pub fn insert(&self, id: &JobId, keyed: bool) {
        let one = (Instant::now(), id.as_str().to_owned());
        let mut open = self.open();
        let doubtful = if keyed {
            &mut open.keyed
        } else {
            &mut open.inserts
        };
        doubtful.push(one);
    }

    /// A new job that was written after all, as its caller asked once more.
    pub fn is_there(&self, id: &JobId) {
        let mut open = self.open();
        let open = &mut *open;
        for doubtful in [&mut open.inserts, &mut open.keyed] {
            doubtful.retain(|(_, name)| name != id.as_str());
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
        let doubtful = self.all();
        let began = Instant::now();
        undo(session, gateway, now, &doubtful).await?;
        let mut open = self.open();
        let young = |at: Instant| began.saturating_duration_since(at) < LATEST;
        open.inserts.retain(|(at, _)| young(*at));
        open.keyed.retain(|(at, _)| young(*at));
        open.claims.retain(|(at, _)| young(*at));
        Ok(())
    }

    fn all(&self) -> Doubtful {
        let open = self.open();
        let names = |all: &[(Instant, String)]| all.iter().map(|(_, name)| name.clone()).collect();
        Doubtful {
            inserts: names(&open.inserts),
            keyed: names(&open.keyed),
            claims: open.claims.iter().map(|(_, one)| *one).collect(),
        }
    }
}

/// What is in doubt at a moment.
struct Doubtful {
    inserts: Vec<String>,
    keyed: Vec<String>,
    claims: Vec<i64>,
}

async fn undo(
    session: &Session,
    gateway: i64,
    now: UnixMillis,
    doubtful: &Doubtful,
) -> Result<(), Fault> {
    let Doubtful {
        inserts,
        keyed,
        claims,
    } = doubtful;
    if !claims.is_empty() {
        let (gateway, numbers) = ((&gateway as _, Type::INT8), (claims as _, Type::INT8_ARRAY));
        let values = [gateway, numbers, (&now.0 as _, Type::INT8)];
        session.ask(UNCLAIM, &values).await?;
    }
    if !keyed.is_empty() {
        let (gateway, names) = ((&gateway as _, Type::INT8), (keyed as _, Type::TEXT_ARRAY));
        let values = [gateway, names, (&now.0 as _, Type::INT8)];
        session.ask(REQUEUE, &values).await?;
    }
    if !inserts.is_empty() {
        let values = [(inserts as _, Type::TEXT_ARRAY)];
        session.ask(UNINSERT, &values).await?;
    }
    Ok(())
}
