//! How values stand in rows.

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::link::Fault;
use crate::cold::history::AttemptRecord;
use crate::cold::job::{
    Callback, CallbackStatus, Job, JobError, JobId, Owner, Reason, Status, StoredAnswer, UnixMillis,
};
use crate::cold::priority::Priority;
use crate::cold::recall::{Became, CallKey, Kept};
use crate::cold::store::StoreError;
use crate::cold::store::lines;

/// The columns of a job in the order that `job` reads them: of `jobs j` and `deliveries d`.
macro_rules! job_columns {
    () => {
        "j.id, j.owner, j.status, j.route, j.reason, j.budget_ms, j.elapsed_ms, j.created_at, \
         j.expires_at, j.finished_at, j.attempts, j.error_code, j.error_message, d.url, d.state, \
         d.deliveries, d.last_error, j.scope, j.background, j.fence, j.priority"
    };
}
pub(super) use job_columns;

/// How many columns these are.
pub(super) const JOB_COLUMNS: usize = 21;

pub(super) type Read<T> = Result<T, Fault>;

fn wrong(row: &Row, column: usize) -> Fault {
    let name = row.columns().get(column).map_or("?", |one| one.name());
    let why = format!("the column {name} of PostgreSQL holds what no gateway wrote");
    Fault::Refused(StoreError::Unavailable(why))
}

/// Reads a column.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Read<T> {
    row.try_get(column).map_err(|_| wrong(row, column))
}

fn count(row: &Row, column: usize) -> Read<u64> {
    get::<i64>(row, column).map(i64::unsigned_abs)
}

fn count32(row: &Row, column: usize) -> Read<u32> {
    u32::try_from(get::<i64>(row, column)?).map_err(|_| wrong(row, column))
}

fn small(row: &Row, column: usize) -> Read<u16> {
    u16::try_from(get::<i64>(row, column)?).map_err(|_| wrong(row, column))
}

fn named<T>(row: &Row, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> Read<T> {
    parse(get::<&str>(row, column)?).ok_or_else(|| wrong(row, column))
}

fn hash(row: &Row, column: usize) -> Read<[u8; 32]> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| wrong(row, column))
}

/// Reads a job's name.
pub(super) fn id(row: &Row, column: usize) -> Read<JobId> {
    named(row, column, JobId::parse)
}

/// Reads a state.
pub(super) fn status(row: &Row, column: usize) -> Read<Status> {
    named(row, column, Status::parse)
}

/// Reads a job.
pub(super) fn job(row: &Row) -> Read<Job> {
    let url: Option<String> = get(row, 13)?;
    let code: Option<String> = get(row, 11)?;
    Ok(Job {
        id: id(row, 0)?,
        owner: Owner(hash(row, 1)?),
        status: status(row, 2)?,
        route: get(row, 3)?,
        reason: named(row, 4, Reason::parse)?,
        budget_ms: count(row, 5)?,
        elapsed_ms: count(row, 6)?,
        created_at: UnixMillis(get(row, 7)?),
        expires_at: UnixMillis(get(row, 8)?),
        finished_at: get::<Option<i64>>(row, 9)?.map(UnixMillis),
        attempts: count32(row, 10)?,
        fence: count(row, 19)?,
        priority: Priority::new(u8::try_from(get::<i64>(row, 20)?).map_err(|_| wrong(row, 20))?)
            .unwrap_or_default(),
        error: match code {
            Some(code) => Some(JobError {
                code,
                message: get::<Option<String>>(row, 12)?.unwrap_or_default(),
            }),
            None => None,
        },
        callback: match url {
            Some(url) => Some(Callback {
                url,
                status: named(row, 14, CallbackStatus::parse)?,
                deliveries: count32(row, 15)?,
                last_error: get(row, 16)?,
            }),
            None => None,
        },
        scope: get(row, 17)?,
        background: get::<Option<&str>>(row, 18)?.and_then(|text| serde_json::from_str(text).ok()),
    })
}

/// Reads an answer: status, headers, body from this column on; `None` where there is none.
pub(super) fn answer(row: &Row, from: usize) -> Read<Option<StoredAnswer>> {
    if get::<Option<i64>>(row, from)?.is_none() {
        return Ok(None);
    }
    Ok(Some(StoredAnswer {
        status: small(row, from)?,
        headers: lines::from_text(get(row, from + 1)?),
        body: Bytes::from(get::<Vec<u8>>(row, from + 2)?),
    }))
}

/// Reads what is kept under a key: an answer's columns, job, fingerprint, moment.
pub(super) fn kept(name: [u8; 32], row: &Row) -> Read<Kept> {
    let what = match get::<Option<&str>>(row, 3)? {
        Some(_) => Became::Job(id(row, 3)?),
        None => Became::Answer(answer(row, 0)?.ok_or_else(|| wrong(row, 0))?),
    };
    Ok(Kept {
        key: CallKey {
            name,
            print: hash(row, 4)?,
        },
        at: UnixMillis(get(row, 5)?),
        what,
    })
}

/// Reads an attempt.
pub(super) fn attempt(row: &Row) -> Read<AttemptRecord> {
    Ok(AttemptRecord {
        number: count32(row, 0)?,
        target: get(row, 1)?,
        began: get::<Option<i64>>(row, 2)?.map(UnixMillis),
        ended: UnixMillis(get(row, 3)?),
        result: get(row, 4)?,
        status: match get::<Option<i64>>(row, 5)? {
            Some(_) => Some(small(row, 5)?),
            None => None,
        },
        error: get(row, 6)?,
        gateway: get(row, 7)?,
    })
}

/// A text as PostgreSQL takes it: it knows no NUL.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A number as it stands in a row.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A limit as it stands in a statement.
pub(super) fn many(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
