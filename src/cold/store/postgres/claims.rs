//! The statements that take from the queue or put back into it: one each, so that none rests in
//! the midst of a transaction with rows locked.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::link::{Session, Value};
use super::rows::{self, JOB_COLUMNS, Read, get, job_columns, many};
use crate::cold::job::{Job, JobId, UnixMillis, webhook_id};
use crate::cold::store::Delivery;

/// The due deliveries; the partial index `deliveries_due` answers it.
macro_rules! deliveries_due {
    () => {
        "select webhook_id, due from shunt.deliveries where state = 'pending' and due <= $1 \
         order by due limit $2 for update skip locked"
    };
}

/// These, to be explained.
#[cfg(test)]
pub(super) const DUE: &str = deliveries_due!();

const CLAIM_DELIVERIES: &str = concat!(
    "with due as (",
    deliveries_due!(),
    "), d as (update shunt.deliveries d set due = $3, gateway = $4 from due \
     where d.webhook_id = due.webhook_id returning d.*, due.due as was_due) select ",
    job_columns!(),
    ", d.webhook_id, d.replayed_at from d \
     join shunt.jobs j on j.id = d.job_id order by d.was_due"
);

/// Takes due deliveries.
pub(super) async fn claim_deliveries(
    session: &Session,
    gateway: i64,
    limit: usize,
    (now, until): (UnixMillis, UnixMillis),
) -> Read<Vec<Delivery>> {
    let limit = many(limit);
    let values: [Value; 4] = [
        (&now.0, Type::INT8),
        (&limit, Type::INT8),
        (&until.0, Type::INT8),
        (&gateway, Type::INT8),
    ];
    let found = session.ask(CLAIM_DELIVERIES, &values).await?;
    let read = |row: &Row| {
        let job = rows::job(row)?;
        let replayed = get::<Option<i64>>(row, JOB_COLUMNS + 1)?.map(UnixMillis);
        Ok(Delivery {
            webhook_id: get(row, JOB_COLUMNS)?,
            since: replayed.or(job.finished_at).unwrap_or(now),
            job,
        })
    };
    found.iter().map(read).collect()
}

const REPLAY: &str = concat!(
    "with d as (update shunt.deliveries d set state = 'pending', due = $2, deliveries = 0, \
     died_at = null, replayed_at = $2 where d.job_id = $1 and d.gateway is null and exists \
     (select 1 from shunt.jobs o where o.id = $1 and o.finished_at is not null) returning d.*) \
     select ",
    job_columns!(),
    " from d join shunt.jobs j on j.id = d.job_id"
);

/// Begins a delivery anew.
pub(super) async fn replay(session: &Session, id: &JobId, now: UnixMillis) -> Read<Option<Job>> {
    let values: [Value; 2] = [(&id.as_str(), Type::TEXT), (&now.0, Type::INT8)];
    let found = session.ask(REPLAY, &values).await?;
    found.first().map(rows::job).transpose()
}

macro_rules! may_retry {
    () => {
        "id = $1 and status in ('failed', 'expired', 'cancelled') \
         and exists (select 1 from shunt.requests where job_id = $1)"
    };
}

// Another end is another event: a receiver that knows the first id must not drop it.
const RETRY: &str = concat!(
    "with j as (update shunt.jobs set status = 'queued', ready = false, due = $2, expires_at = $3, attempts = 0, \
     fence = fence + 1, finished_at = null, error_code = null, error_message = null, \
     gateway = null, claim = null where ",
    may_retry!(),
    " returning *), \
     answered as (delete from shunt.answers where job_id in (select id from j)), \
     d as (update shunt.deliveries set webhook_id = $4, state = 'pending', due = null, \
     gateway = null, deliveries = 0, last_error = null, died_at = null, replayed_at = null \
     where job_id in (select id from j) returning *) select ",
    job_columns!(),
    " from j left join d on d.job_id = j.id"
);

/// Whether a job could be queued once more.
pub(super) async fn may_retry(session: &Session, id: &JobId) -> Read<bool> {
    let sql = concat!("select 1 from shunt.jobs where ", may_retry!());
    let found = session.ask(sql, &[(&id.as_str(), Type::TEXT)]).await?;
    Ok(!found.is_empty())
}

/// Queues an ended job once more.
pub(super) async fn retry(
    session: &Session,
    id: &JobId,
    (now, expires_at): (UnixMillis, UnixMillis),
) -> Read<Option<Job>> {
    let name = webhook_id();
    let values: [Value; 4] = [
        (&id.as_str(), Type::TEXT),
        (&now.0, Type::INT8),
        (&expires_at.0, Type::INT8),
        (&name, Type::TEXT),
    ];
    let found = session.ask(RETRY, &values).await?;
    found.first().map(rows::job).transpose()
}

/// Old jobs in the order of their ends, from where the last step stopped; the partial index
/// `jobs_finished` answers it.
macro_rules! old_jobs {
    () => {
        "select id, finished_at from shunt.jobs where finished_at is not null and finished_at < $1 \
         and finished_at >= $3 and (finished_at, id) > ($3, $4) order by finished_at, id limit $2"
    };
}

const SWEEP: &str = concat!(
    "with seen as (",
    old_jobs!(),
    "), old as (select j.id from shunt.jobs j where j.id in (select id from seen) and not exists \
    (select 1 from shunt.deliveries d where d.job_id = j.id and (d.state = 'pending' or d.died_at >= $1)) \
    for update skip locked), \
    gone as (delete from shunt.jobs where id in (select id from old) returning id), \
    asked as (delete from shunt.requests where job_id in (select id from gone)), \
    answered as (delete from shunt.answers where job_id in (select id from gone)), \
    told as (delete from shunt.deliveries where job_id in (select id from gone)), \
    noted as (delete from shunt.history where job_id in (select id from gone)) \
    select (select count(*) from gone), (select count(*) from seen), last.finished_at, last.id \
    from (select finished_at, id from seen order by finished_at desc, id desc limit 1) last"
);

const SWEEP_KEPT: &str = "with gone as (delete from shunt.kept where name in (select name \
    from shunt.kept where at < $1 order by at limit $2) returning name) select count(*) from gone";

/// Frees a key.
pub(super) async fn forget(session: &Session, name: [u8; 32], before: UnixMillis) -> Read<()> {
    let sql = "delete from shunt.kept where name = $1 and at < $2";
    let values: [Value; 2] = [(&&name[..], Type::BYTEA), (&before.0, Type::INT8)];
    session.ask(sql, &values).await.map(drop)
}

/// The last old job that a sweep has passed: its end and its name.
pub(super) type Passed = (i64, String);

/// Before every job: where a round begins.
pub(super) const START: Passed = (i64::MIN, String::new());

/// Deletes what is old, from where the last step stopped. Jobs that are kept longer, because their
/// callback is, are passed by once a round. Gives how many went; the round is over where `passed`
/// stands at its start again.
pub(super) async fn sweep(
    session: &Session,
    limit: usize,
    before: UnixMillis,
    passed: &mut Passed,
) -> Read<u64> {
    let limit = many(limit);
    let (at, name) = std::mem::replace(passed, START);
    let values: [Value; 4] = [
        (&before.0, Type::INT8),
        (&limit, Type::INT8),
        (&at, Type::INT8),
        (&name, Type::TEXT),
    ];
    let found = session.ask(SWEEP, &values).await?;
    let mut swept = 0i64;
    if let Some(row) = found.first() {
        swept = get(row, 0)?;
        if get::<i64>(row, 1)? == limit {
            *passed = (get(row, 2)?, get(row, 3)?);
        }
    }
    let found = session.ask(SWEEP_KEPT, &values[..2]).await?;
    let kept: i64 = found.first().map_or(Ok(0), |row| get(row, 0))?;
    Ok((swept + kept).unsigned_abs())
}

/// Writes a little: a standby, a full disk or a lost right says so.
pub(super) async fn probe(session: &Session) -> Read<()> {
    let sql = "insert into shunt.probe (one, at) values (1, statement_timestamp()) \
               on conflict (one) do update set at = excluded.at";
    session.ask(sql, &[]).await.map(drop)
}
