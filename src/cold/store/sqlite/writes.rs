//! The statements behind the store's promises; each runs within one savepoint.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows;
use super::worker::{Desk, unavailable};
use crate::cold::job::{Job, JobId, Owner, StoredAnswer, StoredRequest, UnixMillis};
use crate::cold::recall::{Became, Kept};
use crate::cold::seal::Sealer;
use crate::cold::store::{By, ClaimedJob, Outcome, StoreError};

pub(super) type Done<T> = Result<T, StoreError>;

/// The due jobs of a route; the partial index `jobs_due` answers it.
pub(super) const DUE: &str = "select id from jobs where status = 'queued' and route = ?1 \
    and due <= ?2 order by due, seq limit ?3";

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

pub(super) fn insert(
    desk: &Desk,
    sealer: &Sealer,
    limit: u64,
    job: &Job,
    request: &StoredRequest,
) -> Done<()> {
    if desk.unfinished.get() >= limit {
        return Err(StoreError::QueueFull { limit });
    }
    let id = job.id.as_str();
    let background = job.background.as_ref();
    let background = background.and_then(|shape| serde_json::to_string(shape).ok());
    execute(
        desk,
        "insert into jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, created_at, \
         expires_at, attempts, due, scope, background, fence) \
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?8, ?11, ?12, ?13)",
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
        ],
    )?;
    let headers = sealer.seal(id.as_bytes(), &rows::headers_to(&request.headers));
    execute(
        desk,
        "insert into requests (job_id, method, path, headers, body) values (?1, ?2, ?3, ?4, ?5)",
        params![
            id,
            request.method,
            request.path_and_query,
            headers,
            &request.body[..]
        ],
    )?;
    if let Some(callback) = &job.callback {
        let webhook_id = format!("msg_{:032x}", rand::random::<u128>());
        execute(
            desk,
            "insert into deliveries (webhook_id, job_id, url, state) values (?1, ?2, ?3, 'pending')",
            params![webhook_id, id, callback.url],
        )?;
    }
    desk.unfinished.set(desk.unfinished.get() + 1);
    Ok(())
}

pub(super) fn claim(
    desk: &Desk,
    sealer: &Sealer,
    route: &str,
    limit: usize,
    now: UnixMillis,
) -> Done<Vec<ClaimedJob>> {
    let due = all(desk, DUE, params![route, now.0, many(limit)], |row| {
        row.get::<_, String>(0)
    })?;
    let mut claimed = Vec::with_capacity(due.len());
    for id in due {
        execute(
            desk,
            "update jobs set status = 'running', attempts = attempts + 1, fence = fence + 1 \
             where id = ?1",
            [&id],
        )?;
        let Some(id) = JobId::parse(&id) else {
            continue;
        };
        let job = get(&desk.connection, &id).map_err(|error| unavailable(&error))?;
        let request = request(desk, sealer, &id)?;
        if let (Some(job), Some(request)) = (job, request) {
            claimed.push(ClaimedJob { job, request });
        }
    }
    Ok(claimed)
}

fn request(desk: &Desk, sealer: &Sealer, id: &JobId) -> Done<Option<StoredRequest>> {
    let sql = "select method, path, headers, body from requests where job_id = ?1";
    let read = |row: &Row| {
        let sealed: Vec<u8> = row.get(2)?;
        // A lost key loses the credentials, not the job: it is sent without them and the
        // provider's refusal becomes its answer.
        let headers = sealer
            .unseal(id.as_str().as_bytes(), &sealed)
            .unwrap_or_default();
        Ok(StoredRequest {
            method: row.get(0)?,
            path_and_query: row.get(1)?,
            headers: rows::headers_from(&headers),
            body: Bytes::from(row.get::<_, Vec<u8>>(3)?),
        })
    };
    Ok(all(desk, sql, [id.as_str()], read)?.pop())
}

pub(super) fn release(desk: &Desk, id: &JobId, fence: u64, at: UnixMillis) -> Done<()> {
    let sql = "update jobs set status = 'queued', due = ?2 \
               where id = ?1 and status = 'running' and fence = ?3";
    execute(desk, sql, params![id.as_str(), at.0, number(fence)]).map(|_| ())
}

pub(super) fn postpone(desk: &Desk, id: &JobId, fence: u64, at: UnixMillis) -> Done<()> {
    let sql = "update jobs set status = 'queued', due = ?2, attempts = max(attempts - 1, 0) \
               where id = ?1 and status = 'running' and fence = ?3";
    execute(desk, sql, params![id.as_str(), at.0, number(fence)]).map(|_| ())
}

/// The lock on the file is the lease: whatever runs is ours, but for what is held.
pub(super) fn strays(desk: &Desk, held: &[JobId], now: UnixMillis) -> Done<u64> {
    let sql = "select id, fence from jobs where status = 'running'";
    let running = all(desk, sql, [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    let mut strays = 0;
    for (id, fence) in running {
        if let Some(id) = JobId::parse(&id).filter(|id| !held.contains(id)) {
            postpone(desk, &id, fence.unsigned_abs(), now)?;
            strays += 1;
        }
    }
    Ok(strays)
}

pub(super) fn finish(
    desk: &Desk,
    id: &JobId,
    by: By,
    outcome: &Outcome,
    now: UnixMillis,
) -> Done<Option<Job>> {
    let error = outcome.error.as_ref();
    let fence = match by {
        By::Run(fence) => Some(number(fence)),
        By::Order => None,
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
            "insert into answers (job_id, status, headers, body) values (?1, ?2, ?3, ?4)",
            params![
                id.as_str(),
                answer.status,
                rows::headers_to(&answer.headers),
                &answer.body[..]
            ],
        )?;
    }
    execute(
        desk,
        "update deliveries set due = ?2 where job_id = ?1",
        params![id.as_str(), now.0],
    )?;
    desk.unfinished.set(desk.unfinished.get().saturating_sub(1));
    get(&desk.connection, id).map_err(|error| unavailable(&error))
}

pub(super) fn get(connection: &Connection, id: &JobId) -> rusqlite::Result<Option<Job>> {
    let sql = format!("select {} {} where j.id = ?1", rows::JOB, rows::FROM);
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([id.as_str()], rows::job).optional()
}

pub(super) fn answer(
    connection: &Connection,
    id: &JobId,
) -> rusqlite::Result<Option<StoredAnswer>> {
    let sql = "select status, headers, body from answers where job_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([id.as_str()], rows::answer).optional()
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

/// Queues what runs and what is being delivered: whoever did it is gone.
pub(super) fn requeue(desk: &Desk, now: UnixMillis) -> Done<u64> {
    super::operators::note_lost(desk, now)?;
    execute(
        desk,
        "update deliveries set due = ?1, claimed = 0 where claimed = 1",
        [now.0],
    )?;
    let sql = "update jobs set status = 'queued', due = ?1 where status = 'running' \
               and finished_at is null";
    execute(desk, sql, [now.0]).map(|count| count as u64)
}

pub(super) fn sweep(desk: &Desk, limit: usize, before: UnixMillis) -> Done<u64> {
    let sql = "delete from jobs where seq in (select seq from jobs where finished_at is not null \
               and finished_at < ?1 and not exists (select 1 from deliveries d \
               where d.job_id = jobs.id and (d.state = 'pending' or d.died_at >= ?1)) order by finished_at limit ?2)";
    let jobs = execute(desk, sql, params![before.0, many(limit)])?;
    let sql = "delete from kept where name in (select name from kept where at < ?1 \
               order by at limit ?2)";
    let kept = execute(desk, sql, params![before.0, many(limit)])?;
    Ok((jobs + kept) as u64)
}

pub(super) fn keep(desk: &Desk, kept: &Kept) -> Done<()> {
    let (job, answer) = match &kept.what {
        Became::Job(id) => (Some(id.as_str()), None),
        Became::Answer(answer) => (None, Some(answer)),
    };
    let sql = "insert into kept (name, print, at, job_id, status, headers, body) \
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
               on conflict (name) do update set at = excluded.at, job_id = excluded.job_id, \
               status = excluded.status, headers = excluded.headers, body = excluded.body \
               where print = excluded.print";
    let values = params![
        kept.key.name,
        kept.key.print,
        kept.at.0,
        job,
        answer.map(|answer| answer.status),
        answer.map(|answer| rows::headers_to(&answer.headers)),
        answer.map(|answer| &answer.body[..]),
    ];
    execute(desk, sql, values).map(|_| ())
}

pub(super) fn kept(connection: &Connection, name: [u8; 32]) -> rusqlite::Result<Option<Kept>> {
    let sql = "select status, headers, body, job_id, print, at from kept where name = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    statement
        .query_row([name], |row| rows::kept(name, row))
        .optional()
}
