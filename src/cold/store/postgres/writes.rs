//! The statements that write many at once: one statement a kind, its items as arrays.
//!
//! Promises: a statement does all of its items or none, and may be sent again. The items of one
//! statement have different keys.

use std::collections::HashMap;

use tokio_postgres::types::Type;

use super::link::{Fault, Session, Value};
use super::rows::{self, get, job_columns, number, text};
use crate::cold::job::{Job, JobError, JobId, StoredAnswer, StoredRequest, UnixMillis, webhook_id};
use crate::cold::store::{By, Outcome, lines};

/// Types of columns.
pub(super) const TEXTS: Type = Type::TEXT_ARRAY;
pub(super) const NUMBERS: Type = Type::INT8_ARRAY;
pub(super) const BYTES: Type = Type::BYTEA_ARRAY;

/// A job to be kept, as it stands in rows.
pub(super) struct NewJob {
    pub job: Job,
    /// A key leads to it.
    pub keyed: bool,
    background: Option<String>,
    request: StoredRequest,
    /// The request's header lines.
    headers: Vec<u8>,
    webhook_id: String,
}

impl NewJob {
    /// Makes it ready to be written.
    pub fn new(job: Job, request: StoredRequest) -> Self {
        let background = job.background.as_ref();
        Self {
            headers: lines::to_text(&request.headers),
            background: background.and_then(|shape| serde_json::to_string(shape).ok()),
            webhook_id: webhook_id(),
            keyed: false,
            request,
            job,
        }
    }

    fn url(&self) -> Option<String> {
        let callback = self.job.callback.as_ref();
        callback.map(|callback| text(&callback.url))
    }

    /// Bytes that it takes, about.
    pub fn weight(&self) -> usize {
        self.request.body.len() + self.headers.len() + 1_024
    }
}

/// A job's end.
pub(super) struct Ending {
    pub id: JobId,
    pub by: By,
    pub outcome: Outcome,
    pub at: UnixMillis,
}

impl Ending {
    fn fence(&self) -> Option<i64> {
        match self.by {
            By::Run(fence) => Some(number(fence)),
            By::Order | By::Refused => None,
        }
    }

    fn error(&self) -> Option<&JobError> {
        self.outcome.error.as_ref()
    }

    fn answer(&self) -> Option<&StoredAnswer> {
        self.outcome.answer.as_ref()
    }
}

/// A job that goes back into the queue.
pub(super) struct Rest {
    pub id: JobId,
    pub fence: u64,
    pub at: UnixMillis,
    /// Whether its last attempt does not count.
    pub uncounted: bool,
}

/// A column: one value of each item.
pub(super) fn each<'a, T, V>(items: &[&'a T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    items.iter().map(|item| value(item)).collect()
}

const INSERT: &str = "with given as (select * from unnest($1::text[], $2::bytea[], $3::text[], \
    $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], \
    $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[], \
    $16::bytea[], $17::bytea[], $18::text[], $19::text[], $21::bigint[]) with ordinality as t (id, owner, \
    status, route, reason, budget_ms, elapsed_ms, created_at, expires_at, attempts, fence, scope, \
    background, method, path, headers, body, webhook_id, url, priority, place)), \
    made as (insert into shunt.jobs (id, owner, status, route, reason, budget_ms, elapsed_ms, \
    created_at, expires_at, attempts, fence, scope, background, due, priority, ready, gateway) \
    select id, owner, status, route, reason, budget_ms, elapsed_ms, created_at, expires_at, \
    attempts, fence, scope, background, created_at, priority, status = 'queued', \
    case when status = 'running' then $20::bigint end from given order by place \
    on conflict (id) do nothing returning id), \
    asked as (insert into shunt.requests (job_id, method, path, headers, body) \
    select id, method, path, headers, body from given where id in (select id from made)) \
    insert into shunt.deliveries (webhook_id, job_id, url, state) \
    select webhook_id, id, url, 'pending' from given \
    where url is not null and id in (select id from made)";

/// Keeps new jobs, running ones as this gateway's.
pub(super) async fn insert(
    session: &Session,
    gateway: i64,
    items: &[&NewJob],
) -> Result<(), Fault> {
    if items.is_empty() {
        return Ok(());
    }
    let values: [Value; 21] = [
        (&each(items, |one| one.job.id.as_str()), TEXTS),
        (&each(items, |one| &one.job.owner.0[..]), BYTES),
        (&each(items, |one| one.job.status.as_str()), TEXTS),
        (&each(items, |one| text(&one.job.route)), TEXTS),
        (&each(items, |one| one.job.reason.as_str()), TEXTS),
        (&each(items, |one| number(one.job.budget_ms)), NUMBERS),
        (&each(items, |one| number(one.job.elapsed_ms)), NUMBERS),
        (&each(items, |one| one.job.created_at.0), NUMBERS),
        (&each(items, |one| one.job.expires_at.0), NUMBERS),
        (&each(items, |one| i64::from(one.job.attempts)), NUMBERS),
        (&each(items, |one| number(one.job.fence)), NUMBERS),
        (
            &each(items, |one| one.job.scope.as_deref().map(text)),
            TEXTS,
        ),
        (
            &each(items, |one| one.background.as_deref().map(text)),
            TEXTS,
        ),
        (&each(items, |one| text(&one.request.method)), TEXTS),
        (&each(items, |one| text(&one.request.path_and_query)), TEXTS),
        (&each(items, |one| &one.headers[..]), BYTES),
        (&each(items, |one| &one.request.body[..]), BYTES),
        (&each(items, |one| one.webhook_id.as_str()), TEXTS),
        (&each(items, NewJob::url), TEXTS),
        (&gateway, Type::INT8),
        (
            &each(items, |one| i64::from(one.job.priority.level())),
            NUMBERS,
        ),
    ];
    session.ask(INSERT, &values).await.map(drop)
}

const FINISH: &str = concat!(
    "with given as (select * from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], \
     $5::text[], $6::text[], $7::bigint[], $8::bytea[], $9::bytea[], $10::text[], $11::bigint[]) as t (id, fence, status, \
     at, code, message, answered, headers, body, timing, refused)), \
     j as (update shunt.jobs j set status = g.status, finished_at = g.at, error_code = g.code, \
     error_message = g.message, gateway = null, claim = null from given g where j.id = g.id \
     and j.finished_at is null and (g.fence is null or j.fence = g.fence) returning j.*), \
     answered as (insert into shunt.answers (job_id, status, headers, body, timing) \
     select g.id, g.answered, g.headers, g.body, g.timing from given g where g.answered is not null \
     and g.id in (select id from j)), \
     unheard as (delete from shunt.deliveries where job_id in (select j.id from j join given g \
     on g.id = j.id where g.refused > 0)), \
     d as (update shunt.deliveries d set due = j.finished_at from j join given g on g.id = j.id \
     where d.job_id = j.id and g.refused = 0 returning d.*) \
     select ",
    job_columns!(),
    " from j left join d on d.job_id = j.id"
);

/// Ends jobs; gives those that it ended, as they now stand.
pub(super) async fn finish(
    session: &Session,
    items: &[&Ending],
) -> Result<HashMap<JobId, Job>, Fault> {
    if items.is_empty() {
        return Ok(HashMap::new());
    }
    let values: [Value; 11] = [
        (&each(items, |one| one.id.as_str()), TEXTS),
        (&each(items, Ending::fence), NUMBERS),
        (&each(items, |one| one.outcome.status.as_str()), TEXTS),
        (&each(items, |one| one.at.0), NUMBERS),
        (
            &each(items, |one| one.error().map(|error| text(&error.code))),
            TEXTS,
        ),
        (
            &each(items, |one| one.error().map(|error| text(&error.message))),
            TEXTS,
        ),
        (
            &each(items, |one| {
                one.answer().map(|answer| i64::from(answer.status))
            }),
            NUMBERS,
        ),
        (
            &each(items, |one| {
                one.answer().map(|answer| lines::to_text(&answer.headers))
            }),
            BYTES,
        ),
        (
            &each(items, |one| one.answer().map(|answer| &answer.body[..])),
            BYTES,
        ),
        (
            &each(items, |one| one.answer().map(|answer| text(&answer.timing))),
            TEXTS,
        ),
        (
            &each(items, |one| i64::from(one.by == By::Refused)),
            NUMBERS,
        ),
    ];
    let jobs = session.ask(FINISH, &values).await?;
    let jobs = jobs
        .iter()
        .map(|row| rows::job(row).map(|job| (job.id.clone(), job)));
    jobs.collect()
}

const REST: &str = "with given as (select * from unnest($1::text[], $2::bigint[], $3::bigint[], \
    $4::bigint[]) as t (id, fence, at, back)) \
    update shunt.jobs j set status = 'queued', ready = false, due = g.at, gateway = null, claim = null, \
    attempts = greatest(j.attempts - g.back, 0) from given g \
    where j.id = g.id and j.status = 'running' and j.fence = g.fence returning j.id, j.route, j.due";

/// Puts jobs back; gives those that it put back, with route and moment.
pub(super) async fn rest(
    session: &Session,
    items: &[&Rest],
) -> Result<Vec<(JobId, String, UnixMillis)>, Fault> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let values: [Value; 4] = [
        (&each(items, |one| one.id.as_str()), TEXTS),
        (&each(items, |one| number(one.fence)), NUMBERS),
        (&each(items, |one| one.at.0), NUMBERS),
        (&each(items, |one| i64::from(one.uncounted)), NUMBERS),
    ];
    let found = session.ask(REST, &values).await?;
    let read = |row| Ok((rows::id(row, 0)?, get(row, 1)?, UnixMillis(get(row, 2)?)));
    found.iter().map(read).collect()
}
