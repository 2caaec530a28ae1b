//! The statements that only read.

use tokio_postgres::types::Type;

use super::link::{Session, Value};
use super::rows::{self, Read, get as column, job_columns, many, text};
use crate::cold::history::AttemptRecord;
use crate::cold::job::{Job, JobId, Owner, Status, StoredAnswer, UnixMillis};
use crate::cold::recall::Kept;
use crate::cold::store::{LOOKED_AT, ListQuery};

macro_rules! jobs_where {
    ($rest:literal) => {
        concat!(
            "select ",
            job_columns!(),
            " from shunt.jobs j left join shunt.deliveries d on d.job_id = j.id ",
            $rest
        )
    };
}

/// A scope's unfinished jobs; the partial index `jobs_scope` answers it.
pub(super) const SCOPE: &str = jobs_where!(
    "where j.owner = $1 and j.scope = $2 and j.scope is not null and j.finished_at is null \
     order by j.seq desc limit $3"
);

/// The dead deliveries; the partial index `deliveries_dead` answers it.
pub(super) const DEAD: &str =
    jobs_where!("where d.state = 'dead' and j.id is not null order by d.died_at desc limit $1");

/// The overdue jobs; the partial index `jobs_expiry` answers it.
pub(super) const OVERDUE: &str = "select id from shunt.jobs where finished_at is null \
    and expires_at <= $1 order by expires_at limit $2";

async fn jobs(session: &Session, sql: &str, values: &[Value<'_>]) -> Read<Vec<Job>> {
    let found = session.ask(sql, values).await?;
    found.iter().map(rows::job).collect()
}

pub(super) async fn get(session: &Session, id: &JobId) -> Read<Option<Job>> {
    let sql = jobs_where!("where j.id = $1");
    let found = jobs(session, sql, &[(&id.as_str(), Type::TEXT)]).await?;
    Ok(found.into_iter().next())
}

pub(super) async fn answer(session: &Session, id: &JobId) -> Read<Option<StoredAnswer>> {
    let sql = "select status, headers, body, timing from shunt.answers where job_id = $1";
    let values: [Value; 1] = [(&id.as_str(), Type::TEXT)];
    let found = session.ask(sql, &values).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let timing = column::<Option<String>>(row, 3)?.unwrap_or_default();
    let answer = rows::answer(row, 0)?;
    Ok(answer.map(|answer| StoredAnswer { timing, ..answer }))
}

pub(super) async fn answer_size(session: &Session, id: &JobId) -> Read<Option<u64>> {
    let sql = "select octet_length(body)::bigint from shunt.answers where job_id = $1";
    let found = session.ask(sql, &[(&id.as_str(), Type::TEXT)]).await?;
    let size = |row| column::<i64>(row, 0).map(i64::unsigned_abs);
    found.first().map(size).transpose()
}

pub(super) async fn list(session: &Session, query: &ListQuery) -> Read<Vec<Job>> {
    let sql = jobs_where!(
        "where ($1::bytea is null or j.owner = $1) and ($2::text is null or j.status = $2) \
         and ($3::text is null or j.route = $3) \
         and ($4::text is null or j.seq < (select o.seq from shunt.jobs o where o.id = $4)) \
         order by j.seq desc limit $5"
    );
    let owner = query.owner.as_ref().map(|owner| &owner.0[..]);
    let status = query.status.map(Status::as_str);
    let route = query.route.as_deref().map(text);
    let after = query.after.as_ref().map(JobId::as_str);
    let limit = many(query.limit.min(super::LIST + 1));
    let values: [Value; 5] = [
        (&owner, Type::BYTEA),
        (&status, Type::TEXT),
        (&route, Type::TEXT),
        (&after, Type::TEXT),
        (&limit, Type::INT8),
    ];
    jobs(session, sql, &values).await
}

pub(super) async fn jobs_in(
    session: &Session,
    owner: Owner,
    scope: &str,
    limit: usize,
) -> Read<Vec<Job>> {
    let (owner, scope, limit) = (&owner.0[..], text(scope), many(limit));
    let values: [Value; 3] = [
        (&owner, Type::BYTEA),
        (&scope, Type::TEXT),
        (&limit, Type::INT8),
    ];
    jobs(session, SCOPE, &values).await
}

pub(super) async fn counts(session: &Session) -> Read<Vec<(String, Status, u64)>> {
    let sql = "select route, status, count(*) from shunt.jobs group by route, status \
               order by route, status";
    let found = session.ask(sql, &[]).await?;
    let read = |row| {
        let count: i64 = column(row, 2)?;
        Ok((column(row, 0)?, rows::status(row, 1)?, count.unsigned_abs()))
    };
    found.iter().map(read).collect()
}

pub(super) async fn oldest(session: &Session, now: UnixMillis) -> Read<Vec<(String, UnixMillis)>> {
    let sql = "select route, min(due) from (select route, status, due from shunt.jobs \
               where finished_at is null order by expires_at limit $2) nearest \
               where status = 'queued' and due <= $1 group by route order by route";
    let limit = many(LOOKED_AT);
    let values: [Value; 2] = [(&now.0, Type::INT8), (&limit, Type::INT8)];
    let found = session.ask(sql, &values).await?;
    let read = |row| Ok((column(row, 0)?, UnixMillis(column(row, 1)?)));
    found.iter().map(read).collect()
}

async fn count(session: &Session, sql: &str) -> Read<i64> {
    let found = session.ask(sql, &[]).await?;
    found.first().map_or(Ok(0), |row| column(row, 0))
}

pub(super) async fn unfinished(session: &Session) -> Read<i64> {
    count(
        session,
        "select count(*) from shunt.jobs where finished_at is null",
    )
    .await
}

pub(super) async fn count_dead(session: &Session) -> Read<u64> {
    let sql = "select count(*) from shunt.deliveries where state = 'dead'";
    count(session, sql).await.map(i64::unsigned_abs)
}

pub(super) async fn dead(session: &Session, limit: usize) -> Read<Vec<Job>> {
    let limit = many(limit.min(super::LIST));
    jobs(session, DEAD, &[(&limit, Type::INT8)]).await
}

pub(super) async fn history(session: &Session, id: &JobId) -> Read<Vec<AttemptRecord>> {
    let sql = "select number, target, began, ended, result, status, error, gateway \
               from shunt.history where job_id = $1 order by seq";
    let found = session.ask(sql, &[(&id.as_str(), Type::TEXT)]).await?;
    found.iter().map(rows::attempt).collect()
}

pub(super) async fn overdue(session: &Session, limit: usize, now: UnixMillis) -> Read<Vec<JobId>> {
    let values: [Value; 2] = [(&now.0, Type::INT8), (&many(limit), Type::INT8)];
    let found = session.ask(OVERDUE, &values).await?;
    found.iter().map(|row| rows::id(row, 0)).collect()
}

pub(super) async fn kept(session: &Session, name: [u8; 32]) -> Read<Option<Kept>> {
    let sql = "select status, headers, body, job_id, print, at from shunt.kept where name = $1";
    let values: [Value; 1] = [(&&name[..], Type::BYTEA)];
    let found = session.ask(sql, &values).await?;
    let first = found.first().map(|row| rows::kept(name, row));
    first.transpose()
}
