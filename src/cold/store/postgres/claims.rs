//! The statements that take from the queue or put back into it: one each, so that none rests in
//! the midst of a transaction with rows locked.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::link::{Session, Value};
use super::rows::{self, JOB_COLUMNS, Read, get, job_columns, many};
use super::writes::webhook_id;
use crate::cold::job::{Job, JobId, StoredRequest, UnixMillis};
use crate::cold::seal::Sealer;
use crate::cold::store::sqlite::rows::headers_from;
use crate::cold::store::{ClaimedJob, Delivery};

/// The due jobs of a route; the partial index `jobs_due` answers it.
macro_rules! due {
    () => {
        "select id from shunt.jobs where status = 'queued' and route = $1 and due <= $2 \
         order by due, seq limit $3 for update skip locked"
    };
}

/// The due deliveries; the partial index `deliveries_due` answers it.
macro_rules! deliveries_due {
    () => {
        "select webhook_id, due from shunt.deliveries where state = 'pending' and due <= $1 \
         order by due limit $2 for update skip locked"
    };
}

/// These two, to be explained.
#[cfg(test)]
pub(super) const DUE: [&str; 2] = [due!(), deliveries_due!()];

const CLAIM: &str = concat!(
    "with due as (",
    due!(),
    "), j as (update shunt.jobs j set status = 'running', attempts = j.attempts + 1, \
     fence = j.fence + 1, gateway = $4, claim = $5 from due where j.id = due.id returning j.*) \
     select ",
    job_columns!(),
    ", r.method, r.path, r.headers, r.body from j \
     left join shunt.deliveries d on d.job_id = j.id \
     join shunt.requests r on r.job_id = j.id order by j.due, j.seq"
);

/// Takes due jobs.
pub(super) async fn claim(
    session: &Session,
    sealer: &Sealer,
    (gateway, claim): (i64, i64),
    (route, limit): (&str, usize),
    now: UnixMillis,
) -> Read<Vec<ClaimedJob>> {
    let limit = many(limit);
    let values: [Value; 5] = [
        (&route, Type::TEXT),
        (&now.0, Type::INT8),
        (&limit, Type::INT8),
        (&gateway, Type::INT8),
        (&claim, Type::INT8),
    ];
    let found = session.ask(CLAIM, &values).await?;
    let read = |row: &Row| {
        let job = rows::job(row)?;
        let request = request(row, sealer, &job.id)?;
        Ok(ClaimedJob { job, request })
    };
    found.iter().map(read).collect()
}

fn request(row: &Row, sealer: &Sealer, id: &JobId) -> Read<StoredRequest> {
    let sealed: &[u8] = get(row, JOB_COLUMNS + 2)?;
    // A lost key loses the credentials, not the job: it is sent without them and the
    // provider's refusal becomes its answer.
    let headers = sealer.unseal(id.as_str().as_bytes(), sealed);
    Ok(StoredRequest {
        method: get(row, JOB_COLUMNS)?,
        path_and_query: get(row, JOB_COLUMNS + 1)?,
        headers: headers_from(&headers.unwrap_or_default()),
        body: get::<Vec<u8>>(row, JOB_COLUMNS + 3)?.into(),
    })
}

const CLAIM_DELIVERIES: &str = concat!(
    "with due as (",
    deliveries_due!(),
    "), d as (update shunt.deliveries d set due = $3, gateway = $4 from due \
     where d.webhook_id = due.webhook_id returning d.*, due.due as was_due) select ",
    job_columns!(),
    ", d.webhook_id, d.replayed_at, a.status, a.headers, a.body from d \
     join shunt.jobs j on j.id = d.job_id left join shunt.answers a on a.job_id = d.job_id \
     order by d.was_due"
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
            answer: rows::answer(row, JOB_COLUMNS + 2)?,
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
    "with j as (update shunt.jobs set status = 'queued', due = $2, expires_at = $3, attempts = 0, \
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

const SWEEP: &str = "with old as (select j.id from shunt.jobs j where j.finished_at is not null \
    and j.finished_at < $1 and not exists (select 1 from shunt.deliveries d \
    where d.job_id = j.id and (d.state = 'pending' or d.died_at >= $1)) \
    order by j.finished_at limit $2 for update skip locked), \
    gone as (delete from shunt.jobs where id in (select id from old) returning id), \
    asked as (delete from shunt.requests where job_id in (select id from gone)), \
    answered as (delete from shunt.answers where job_id in (select id from gone)), \
    told as (delete from shunt.deliveries where job_id in (select id from gone)), \
    noted as (delete from shunt.history where job_id in (select id from gone)) \
    select count(*) from gone";

const SWEEP_KEPT: &str = "with gone as (delete from shunt.kept where name in (select name \
    from shunt.kept where at < $1 order by at limit $2) returning name) select count(*) from gone";

const SWEEP_GATEWAYS: &str =
    "delete from shunt.gateways where lease_until < statement_timestamp() - interval '1 day'";

/// Deletes what is old.
pub(super) async fn sweep(session: &Session, limit: usize, before: UnixMillis) -> Read<u64> {
    let limit = many(limit);
    let values: [Value; 2] = [(&before.0, Type::INT8), (&limit, Type::INT8)];
    let mut swept = 0;
    for sql in [SWEEP, SWEEP_KEPT] {
        let found = session.ask(sql, &values).await?;
        let count: i64 = found.first().map_or(Ok(0), |row| get(row, 0))?;
        swept += count.unsigned_abs();
    }
    session.ask(SWEEP_GATEWAYS, &[]).await?;
    Ok(swept)
}

/// Writes a little: a standby, a full disk or a lost right says so.
pub(super) async fn probe(session: &Session) -> Read<()> {
    let sql = "insert into shunt.probe (one, at) values (1, statement_timestamp()) \
               on conflict (one) do update set at = excluded.at";
    session.ask(sql, &[]).await.map(drop)
}
