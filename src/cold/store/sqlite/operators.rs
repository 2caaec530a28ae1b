//! The statements behind what operators see and do: counts, histories, another run, a probe.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use super::worker::{Desk, unavailable};
use super::writes::{Done, execute, get, many};
use super::{LIST, rows};
use crate::cold::history::{AttemptRecord, KEPT};
use crate::cold::job::{Job, JobId, Status, UnixMillis, webhook_id};
use crate::cold::store::{LOOKED_AT, ListQuery, StoreError};

pub(super) fn list(connection: &Connection, query: &ListQuery) -> rusqlite::Result<Vec<Job>> {
    // Written out, so that a caller's own are found by its index.
    let owner = query.owner.map_or("?1 is null", |_| "j.owner = ?1");
    let sql = format!(
        "select {} {} where {owner} and (?2 is null or j.status = ?2) \
         and (?3 is null or j.route = ?3) \
         and (?4 is null or j.seq < (select seq from jobs where id = ?4)) \
         order by j.seq desc limit ?5",
        rows::JOB,
        rows::FROM
    );
    let values = params![
        query.owner.map(|owner| owner.0),
        query.status.map(Status::as_str),
        query.route,
        query.after.as_ref().map(JobId::as_str),
        many(query.limit.min(LIST + 1)),
    ];
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map(values, rows::job)?.collect()
}

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<Vec<(String, Status, u64)>> {
    let sql = "select route, status, jobs from tally where jobs > 0";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([], |row| {
        let count: i64 = row.get(2)?;
        Ok((row.get(0)?, row.get::<_, String>(1)?, count.unsigned_abs()))
    })?;
    let mut counts = Vec::new();
    for one in found {
        let (route, status, count) = one?;
        if let Some(status) = Status::parse(&status) {
            counts.push((route, status, count));
        }
    }
    Ok(counts)
}

/// Since when jobs could run that wait; the partial index `jobs_expiry` brings the nearest deadlines.
pub(super) const OLDEST: &str = "select route, due from (select route, status, due from jobs \
    where finished_at is null order by expires_at limit ?2) \
    where status = 'queued' and due <= ?1";

pub(super) fn oldest(
    connection: &Connection,
    now: UnixMillis,
) -> rusqlite::Result<Vec<(String, UnixMillis)>> {
    let mut statement = connection.prepare_cached(OLDEST)?;
    let mut found = statement.query(params![now.0, many(LOOKED_AT)])?;
    let mut oldest: BTreeMap<String, UnixMillis> = BTreeMap::new();
    while let Some(row) = found.next()? {
        let (route, due) = (row.get_ref(0)?.as_str()?, UnixMillis(row.get(1)?));
        match oldest.get_mut(route) {
            Some(since) => *since = due.min(*since),
            None => _ = oldest.insert(route.to_owned(), due),
        }
    }
    Ok(oldest.into_iter().collect())
}

pub(super) fn note(desk: &Desk, id: &JobId, records: &[AttemptRecord]) -> Done<()> {
    let sql = "insert into history (job, number, target, began, ended, result, status, error, \
               gateway) select seq, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 from jobs where id = ?1";
    for one in records {
        let values = params![
            id.as_str(),
            one.number,
            one.target,
            one.began.map(|at| at.0),
            one.ended.0,
            one.result,
            one.status,
            one.error,
            one.gateway,
        ];
        execute(desk, sql, values)?;
    }
    let sql = "delete from history where job = (select seq from jobs where id = ?1) and seq <= (select seq from history \
               where job = (select seq from jobs where id = ?1) order by seq desc limit 1 offset ?2)";
    execute(desk, sql, params![id.as_str(), KEPT]).map(|_| ())
}

/// The histories of what ran; the partial index `jobs_running` finds it.
pub(super) const LOST: &str = "insert into history (job, number, ended, result, gateway) \
    select seq, max(attempts, 1), ?1, 'lost', 'a process that ended' from jobs \
    where status = 'running' and finished_at is null";

/// What ran when a process died is told in its history.
pub(super) fn note_lost(desk: &Desk, now: UnixMillis) -> Done<()> {
    execute(desk, LOST, [now.0]).map(|_| ())
}

pub(super) fn history(connection: &Connection, id: &JobId) -> rusqlite::Result<Vec<AttemptRecord>> {
    let sql = "select number, target, began, ended, result, status, error, gateway \
               from history where job = (select seq from jobs where id = ?1) order by seq";
    let read = |row: &Row| {
        Ok(AttemptRecord {
            number: row.get(0)?,
            target: row.get(1)?,
            began: row.get::<_, Option<i64>>(2)?.map(UnixMillis),
            ended: UnixMillis(row.get(3)?),
            result: row.get(4)?,
            status: row.get(5)?,
            error: row.get(6)?,
            gateway: row.get(7)?,
        })
    };
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([id.as_str()], read)?.collect()
}

pub(super) fn retry(
    desk: &Desk,
    limit: u64,
    id: &JobId,
    now: UnixMillis,
    expires_at: UnixMillis,
) -> Done<Option<Job>> {
    let full = desk.unfinished.get() >= limit;
    let sql = "update jobs set status = 'queued', due = ?2, ready = 1, expires_at = ?3, attempts = 0, fence = fence + 1, \
               finished_at = null, error_code = null, error_message = null \
               where id = ?1 and status in ('failed', 'expired', 'cancelled') \
               and exists (select 1 from requests where job = seq)";
    if execute(desk, sql, params![id.as_str(), now.0, expires_at.0])? == 0 {
        return Ok(None);
    }
    if full {
        return Err(StoreError::QueueFull { limit });
    }
    execute(
        desk,
        "delete from answers where job = (select seq from jobs where id = ?1)",
        [id.as_str()],
    )?;
    // Another end is another event: a receiver that knows the first id must not drop it.
    let name = webhook_id();
    let sql = "update deliveries set webhook_id = ?2, state = 'pending', due = null, claimed = 0, \
               deliveries = 0, last_error = null, died_at = null, replayed_at = null where job = (select seq from jobs where id = ?1)";
    execute(desk, sql, params![id.as_str(), name])?;
    desk.unfinished.set(desk.unfinished.get() + 1);
    get(&desk.connection, id).map_err(|error| unavailable(&error))
}

/// Writes as much as a call may need: a file that can only be read, or a full disk, says so.
pub(super) fn probe(desk: &Desk) -> Done<()> {
    let sql = "insert or replace into probe (one, room) values (1, zeroblob(65536))";
    execute(desk, sql, []).map(|_| ())
}
