//! How values stand in rows.

use bytes::Bytes;
use rusqlite::{Row, types::Type};

use crate::cold::job::{
    Callback, CallbackStatus, Job, JobError, JobId, Owner, Reason, Status, StoredAnswer,
    StoredRequest, UnixMillis,
};
use crate::cold::priority::Priority;
use crate::cold::recall::{Became, CallKey, Kept};
use crate::cold::store::lines;

/// The columns of a job, in the order that `job` reads them.
pub const JOB: &str = "j.id, j.owner, j.status, j.route, j.reason, j.budget_ms, j.elapsed_ms, \
    j.created_at, j.expires_at, j.finished_at, j.attempts, j.error_code, j.error_message, \
    d.url, d.state, d.deliveries, d.last_error, j.scope, j.background, j.fence, j.priority";

/// Where those columns come from.
pub const FROM: &str = "from jobs j left join deliveries d on d.job = j.seq";

fn wrong(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, "unknown value".into())
}

fn count(row: &Row, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

fn count32(row: &Row, column: usize) -> rusqlite::Result<u32> {
    u32::try_from(row.get::<_, i64>(column)?).map_err(|_| wrong(column))
}

/// Reads a job.
pub fn job(row: &Row) -> rusqlite::Result<Job> {
    let text = |column| row.get::<_, String>(column);
    let owner: Vec<u8> = row.get(1)?;
    let code: Option<String> = row.get(11)?;
    let url: Option<String> = row.get(13)?;
    Ok(Job {
        id: JobId::parse(&text(0)?).ok_or_else(|| wrong(0))?,
        owner: Owner(owner.try_into().map_err(|_| wrong(1))?),
        status: Status::parse(&text(2)?).ok_or_else(|| wrong(2))?,
        route: text(3)?,
        reason: Reason::parse(&text(4)?).ok_or_else(|| wrong(4))?,
        budget_ms: count(row, 5)?,
        elapsed_ms: count(row, 6)?,
        created_at: UnixMillis(row.get(7)?),
        expires_at: UnixMillis(row.get(8)?),
        finished_at: row.get::<_, Option<i64>>(9)?.map(UnixMillis),
        attempts: count32(row, 10)?,
        fence: count(row, 19)?,
        error: match code {
            Some(code) => Some(JobError {
                code,
                message: row.get::<_, Option<String>>(12)?.unwrap_or_default(),
            }),
            None => None,
        },
        callback: match url {
            Some(url) => Some(Callback {
                url,
                status: CallbackStatus::parse(&text(14)?).ok_or_else(|| wrong(14))?,
                deliveries: count32(row, 15)?,
                last_error: row.get(16)?,
            }),
            None => None,
        },
        scope: row.get(17)?,
        background: row
            .get::<_, Option<String>>(18)?
            .and_then(|text| serde_json::from_str(&text).ok()),
        priority: Priority::new(row.get(20)?).ok_or_else(|| wrong(20))?,
    })
}

/// Reads an answer: status, headers, body.
pub fn answer(row: &Row) -> rusqlite::Result<StoredAnswer> {
    Ok(StoredAnswer {
        status: row.get(0)?,
        headers: lines::from_text(&row.get::<_, Vec<u8>>(1)?),
        body: Bytes::from(row.get::<_, Vec<u8>>(2)?),
        timing: String::new(),
    })
}

/// Reads a request: method, path, headers, body, whether the headers are lines. A gateway of before
/// sealed them as a whole: they stand as one line without a name.
pub fn request(row: &Row) -> rusqlite::Result<StoredRequest> {
    let headers: Vec<u8> = row.get(2)?;
    Ok(StoredRequest {
        method: row.get(0)?,
        path_and_query: row.get(1)?,
        headers: if row.get(4)? {
            lines::from_text(&headers)
        } else {
            vec![(String::new(), headers)]
        },
        body: Bytes::from(row.get::<_, Vec<u8>>(3)?),
    })
}

/// Reads what is kept under a key: an answer's columns, job, fingerprint, moment.
pub fn kept(name: [u8; 32], row: &Row) -> rusqlite::Result<Kept> {
    let what = match row.get::<_, Option<String>>(3)? {
        Some(id) => Became::Job(JobId::parse(&id).ok_or_else(|| wrong(3))?),
        None => Became::Answer(answer(row)?),
    };
    let print = row.get(4)?;
    Ok(Kept {
        key: CallKey { name, print },
        at: UnixMillis(row.get(5)?),
        what,
    })
}
