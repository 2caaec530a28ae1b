//! The statements behind the store's promises; each runs within one savepoint.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows;
use super::worker::{Desk, unavailable};
use crate::cold::job::{Job, JobId, Owner, StoredAnswer, StoredRequest, UnixMillis, webhook_id};
use crate::cold::recall::Kept;
use crate::cold::store::{By, Outcome, StoreError, lines};

pub(super) type Done<T> = Result<T, StoreError>;

/// A scope's unfinished jobs; the partial index `jobs_scope` answers it.
pub(super) const SCOPE: &str = "select id from jobs where owner = ?1 and scope = ?2 \
    and scope is not null and finished_at is null order by seq desc limit ?3";

pub(super) fn execute(desk: &Desk, sql: &str, values: impl rusqlite::Params) -> Done<usize> {
    let done = desk
        .connection
        .prepare_cached(sql)
        .and_then(|mut one| one.execute(values));
    done.map_err(|error| unavailable(&error))
}

pub(super) fn all<T>(
    desk: &Desk,
    sql: &str,
    values: impl rusqlite::Params,
    read: impl FnMut(&Row) -> rusqlite::Result<T>,
) -> Done<Vec<T>> {
    let found = desk
        .connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement
                .query_map(values, read)?
                .collect::<rusqlite::Result<Vec<T>>>()
        });
    found.map_err(|error| unavailable(&error))
}

pub(super) fn many(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whether there is room for one more.
pub(super) fn room(desk: &Desk, limit: u64) -> Done<()> {
    if desk.unfinished.get() >= limit {
        return Err(StoreError::QueueFull { limit });
    }
    Ok(())
}

/// `apart`: the name of the request's body, if it is kept apart.
pub(super) fn insert(
    desk: &Desk,
    limit: u64,
    job: &Job,
    request: &StoredRequest,
    apart: Option<i64>,
) -> Done<()> {
    room(desk, limit)?;
    let id = job.id.as_str();
    let background = job.background.as_ref();
    let background = background.and_then(|shape| serde_json::to_string(shape).ok());
    execute(
        desk,
        "insert into jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, created_at, \
         expires_at, attempts, due, scope, background, fence, priority, ready) \
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?8, ?11, ?12, ?13, ?14, 1)",
        params![
            id,
            job.owner.0,
            job.status.as_str(),
            job.route,
            job.reason.as_str(),
            number(job.budget_ms),
            number(job.elapsed_ms),
            job.created_at.0,
            job.expires_at.0,
            job.attempts,
            job.scope,
            background,
            number(job.fence),
            job.priority.level(),
        ],
    )?;
    let seq = desk.connection.last_insert_rowid();
    execute(
        desk,
        "insert into requests (job, method, path, headers, body, plain, apart) \
         values (?1, ?2, ?3, ?4, ?5, 1, ?6)",
        params![
            seq,
            request.method,
            request.path_and_query,
            lines::to_text(&request.headers),
            &request.body[..],
            apart,
        ],
    )?;
    if let Some(callback) = &job.callback {
        execute(
            desk,
            "insert into deliveries (job, webhook_id, url, state) values (?1, ?2, ?3, 'pending')",
            params![seq, webhook_id(), callback.url],
        )?;
    }
    desk.unfinished.set(desk.unfinished.get() + 1);
    Ok(())
}

/// A row's value, and the name of its body if that is kept apart.
pub(super) type Apart<T> = (T, Option<i64>);

pub(super) fn request(desk: &Desk, id: &JobId) -> Done<Option<Apart<StoredRequest>>> {
    let sql = "select method, path, headers, body, plain, apart from requests where job = (select seq from jobs where id = ?1)";
    let read = |row: &Row| Ok((rows::request(row)?, row.get(5)?));
    Ok(all(desk, sql, [id.as_str()], read)?.pop())
}

pub(super) fn release(desk: &Desk, id: &JobId, fence: u64, at: UnixMillis) -> Done<()> {
    let sql = "update jobs set status = 'queued', due = ?2, ready = 0 \
               where id = ?1 and status = 'running' and fence = ?3";
    execute(desk, sql, params![id.as_str(), at.0, number(fence)]).map(|_| ())
}

pub(super) fn postpone(desk: &Desk, id: &JobId, fence: u64, at: UnixMillis) -> Done<()> {
    let sql = "update jobs set status = 'queued', due = ?2, ready = 0, attempts = max(attempts - 1, 0) \
               where id = ?1 and status = 'running' and fence = ?3";
    execute(desk, sql, params![id.as_str(), at.0, number(fence)]).map(|_| ())
}

/// What runs; the partial index `jobs_running` answers it.
pub(super) const RUNNING: &str = "select id, fence from jobs where status = 'running'";

/// The lock on the file is the lease: whatever runs is ours, but for what is held.
pub(super) fn strays(desk: &Desk, held: &[(JobId, u64)], now: UnixMillis) -> Done<u64> {
    let running = all(desk, RUNNING, [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    let unknown = running.into_iter().filter_map(|(id, fence)| {
        let run = (JobId::parse(&id)?, fence.unsigned_abs());
        (!held.contains(&run)).then_some(run)
    });
    let mut strays = 0;
    for (id, fence) in unknown {
        postpone(desk, &id, fence, now)?;
        strays += 1;
    }
    Ok(strays)
}

pub(super) fn finish(
    desk: &Desk,
    id: &JobId,
    by: By,
    (outcome, apart): (&Outcome, Option<i64>),
    now: UnixMillis,
) -> Done<Option<Job>> {
    let error = outcome.error.as_ref();
    let fence = match by {
        By::Run(fence) => Some(number(fence)),
        By::Order | By::Refused => None,
    };
    let changed = execute(
        desk,
        "update jobs set status = ?2, finished_at = ?3, error_code = ?4, error_message = ?5 \
         where id = ?1 and finished_at is null and (?6 is null or fence = ?6)",
        params![
            id.as_str(),
            outcome.status.as_str(),
            now.0,
            error.map(|error| &error.code),
            error.map(|error| &error.message),
            fence,
        ],
    )?;
    if changed == 0 {
        return Ok(None);
    }
    if let Some(answer) = &outcome.answer {
        execute(
            desk,
            "insert into answers (job, status, headers, body, apart, timing) \
             values ((select seq from jobs where id = ?1), ?2, ?3, ?4, ?5, ?6)",
            params![
                id.as_str(),
                answer.status,
                lines::to_text(&answer.headers),
                &answer.body[..],
                apart,
                answer.timing,
            ],
        )?;
    }
    told(desk, id, by, now)?;
    desk.unfinished.set(desk.unfinished.get().saturating_sub(1));
    get(&desk.connection, id).map_err(|error| unavailable(&error))
}

/// Its callback is due, or goes with a job that nobody heard of.
fn told(desk: &Desk, id: &JobId, by: By, now: UnixMillis) -> Done<()> {
    if by == By::Refused {
        let sql = "delete from deliveries where job = (select seq from jobs where id = ?1)";
        return execute(desk, sql, params![id.as_str()]).map(drop);
    }
    let sql = "update deliveries set due = ?2 where job = (select seq from jobs where id = ?1)";
    execute(desk, sql, params![id.as_str(), now.0]).map(drop)
}

pub(super) fn get(connection: &Connection, id: &JobId) -> rusqlite::Result<Option<Job>> {
    let sql = format!("select {} {} where j.id = ?1", rows::JOB, rows::FROM);
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([id.as_str()], rows::job).optional()
}

pub(super) fn answer(
    connection: &Connection,
    id: &JobId,
) -> rusqlite::Result<Option<Apart<StoredAnswer>>> {
    let sql = "select status, headers, body, apart, timing from answers where job = (select seq from jobs where id = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row| {
        let timing = row.get::<_, Option<String>>(4)?.unwrap_or_default();
        let answer = rows::answer(row)?;
        Ok((StoredAnswer { timing, ..answer }, row.get(3)?))
    };
    statement.query_row([id.as_str()], read).optional()
}

/// The size of an answer's body, or the name of that which is kept apart.
pub(super) fn answer_size(
    connection: &Connection,
    id: &JobId,
) -> rusqlite::Result<Option<Apart<u64>>> {
    let sql =
        "select length(body), apart from answers where job = (select seq from jobs where id = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?));
    statement.query_row([id.as_str()], read).optional()
}

/// Which of some bodies rows name.
pub(super) fn named(connection: &Connection, names: &[i64]) -> rusqlite::Result<HashSet<i64>> {
    let mut found = HashSet::new();
    for table in ["requests", "answers", "kept"] {
        let sql = format!("select 1 from {table} where apart = ?1");
        let mut statement = connection.prepare_cached(&sql)?;
        for name in names {
            if statement.exists([name])? {
                found.insert(*name);
            }
        }
    }
    Ok(found)
}

pub(super) fn jobs_in(
    connection: &Connection,
    owner: Owner,
    scope: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Job>> {
    let mut statement = connection.prepare_cached(SCOPE)?;
    let values = params![owner.0, scope, many(limit)];
    let found = statement.query_map(values, |row| row.get::<_, String>(0))?;
    let mut jobs = Vec::new();
    for id in found {
        if let Some(id) = JobId::parse(&id?) {
            jobs.extend(get(connection, &id)?);
        }
    }
    Ok(jobs)
}

/// What was being delivered is due; the partial index `deliveries_claimed` finds it.
pub(super) const UNCLAIM: &str = "update deliveries set due = ?1, claimed = 0 where claimed = 1";

/// What ran is queued; the partial index `jobs_running` finds it.
pub(super) const REQUEUE: &str = "update jobs set status = 'queued', due = ?1, ready = 1 \
    where status = 'running' and finished_at is null";

/// Queues what runs and what is being delivered: whoever did it is gone.
pub(super) fn requeue(desk: &Desk, now: UnixMillis) -> Done<u64> {
    super::operators::note_lost(desk, now)?;
    execute(desk, UNCLAIM, [now.0])?;
    execute(desk, REQUEUE, [now.0]).map(|count| count as u64)
}

pub(super) fn keep(desk: &Desk, kept: &Kept, apart: Option<i64>) -> Done<()> {
    let (job, answer) = (kept.job().map(JobId::as_str), kept.answer());
    let sql = "insert into kept (name, print, at, job_id, status, headers, body, apart) \
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
               on conflict (name) do update set at = excluded.at, job_id = excluded.job_id, \
               status = excluded.status, headers = excluded.headers, body = excluded.body, \
               apart = excluded.apart where print = excluded.print";
    let values = params![
        kept.key.name,
        kept.key.print,
        kept.at.0,
        job,
        answer.map(|answer| answer.status),
        answer.map(|answer| lines::to_text(&answer.headers)),
        answer.map(|answer| &answer.body[..]),
        apart,
    ];
    execute(desk, sql, values).map(|_| ())
}

pub(super) fn forget(desk: &Desk, name: [u8; 32], before: UnixMillis) -> Done<()> {
    let sql = "delete from kept where name = ?1 and at < ?2";
    execute(desk, sql, params![name, before.0]).map(|_| ())
}

pub(super) fn kept(
    connection: &Connection,
    name: [u8; 32],
) -> rusqlite::Result<Option<Apart<Kept>>> {
    let sql = "select status, headers, body, job_id, print, at, apart from kept where name = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row| Ok((rows::kept(name, row)?, row.get(6)?));
    statement.query_row([name], read).optional()
}
