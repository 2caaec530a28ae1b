//! Which queued jobs of a route are taken next: callers take turns, as `sqlite::order` tells it.
//!
//! Promises: no job is given to two gateways (`SKIP LOCKED`); a job costs the same however many wait,
//! of however many callers. Whose turn it is is each gateway's own: many gateways begin at different
//! callers. No statement waits for another's rows.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::link::{Session, Value};
use super::rows::{self, JOB_COLUMNS, Read, get, job_columns, many};
use crate::cold::job::{StoredRequest, UnixMillis};
use crate::cold::shares::{Round, Turns};
use crate::cold::store::{ClaimedJob, lines};

/// Jobs that become ready in one claim at most.
const PROMOTED: usize = 256;

/// Makes jobs ready that are due; the partial index `jobs_later` finds them.
const PROMOTE: &str = "with due as (select id from shunt.jobs where status = 'queued' and not ready \
    and route = $1 and due <= $2 order by due limit $3 for update skip locked) \
    update shunt.jobs j set ready = true from due where j.id = due.id";

/// The next callers after one that have ready jobs of a route: one step in `jobs_ready` for each.
const CALLERS: &str = "with recursive turn (owner, place) as (\
    (select owner, 1 from shunt.jobs where status = 'queued' and ready and route = $1 \
    and owner > $2 order by owner limit 1) \
    union all \
    select (select j.owner from shunt.jobs j where j.status = 'queued' and j.ready \
    and j.route = $1 and j.owner > turn.owner order by j.owner limit 1), turn.place + 1 \
    from turn where turn.owner is not null and turn.place < $3) \
    select owner from turn where owner is not null";

/// Each caller's next jobs of a route, in the order of `jobs_ready`.
const NEXT: &str = concat!(
    "with asked as (select owner, part, place from unnest($2::bytea[], $3::bigint[]) \
     with ordinality as t (owner, part, place)), \
     next as (select n.id, asked.place from asked cross join lateral (select id \
     from shunt.jobs o where o.status = 'queued' and o.ready and o.route = $1 \
     and o.owner = asked.owner order by o.priority desc, o.expires_at, o.seq limit asked.part \
     for update skip locked) n), \
     j as (update shunt.jobs j set status = 'running', attempts = j.attempts + 1, \
     fence = j.fence + 1, gateway = $4, claim = $5 from next where j.id = next.id \
     returning j.*, next.place) select ",
    job_columns!(),
    ", r.method, r.path, r.headers, r.body from j \
     left join shunt.deliveries d on d.job_id = j.id \
     join shunt.requests r on r.job_id = j.id \
     order by j.place, j.priority desc, j.expires_at, j.seq"
);

macro_rules! routes {
    ($ready:literal) => {
        concat!(
            "(select (select route from shunt.jobs where status = 'queued' and ",
            $ready,
            " order by route limit 1) as route union all select (select j.route from shunt.jobs j \
             where j.status = 'queued' and j.",
            $ready,
            " and j.route > found.route order by j.route limit 1) from found \
             where found.route is not null)"
        )
    };
}

/// Routes of which a claim would take jobs: a step in `jobs_ready` for each, two in `jobs_later`.
pub(super) const DUE: &str = concat!(
    "select route from (with recursive found as ",
    routes!("ready"),
    " select route from found) a where route is not null union \
     select route from (with recursive found as ",
    routes!("ready = false"),
    " select route from found) b where route is not null and exists (select 1 from shunt.jobs l \
     where l.status = 'queued' and not l.ready and l.route = b.route and l.due <= $1)"
);

/// These, to be explained.
#[cfg(test)]
pub(super) const STATEMENTS: [(&str, &str); 3] = [
    (PROMOTE, "jobs_later"),
    (CALLERS, "jobs_ready"),
    (NEXT, "jobs_ready"),
];

/// Routes of which a claim would take jobs.
pub(super) async fn due(session: &Session, now: UnixMillis) -> Read<Vec<String>> {
    let found = session.ask(DUE, &[(&now.0, Type::INT8)]).await?;
    found.iter().map(|row| get(row, 0)).collect()
}

/// Takes due jobs.
pub(super) async fn claim(
    session: &Session,
    turns: &Turns,
    by: (i64, i64),
    (route, limit): (&str, usize),
    now: UnixMillis,
) -> Read<Vec<ClaimedJob>> {
    let most = many(limit.max(PROMOTED));
    let values: [Value; 3] = [
        (&route, Type::TEXT),
        (&now.0, Type::INT8),
        (&most, Type::INT8),
    ];
    session.ask(PROMOTE, &values).await?;
    let mut claimed = Vec::new();
    while claimed.len() < limit {
        let left = limit - claimed.len();
        let rest = turns.of(route).rest(left);
        let goes_on = rest.is_some();
        // What one round does not take goes to the next.
        let round = match rest {
            Some(rest) => rest,
            None => turns.round(callers(session, turns, route, left).await?, left),
        };
        if round.parts.is_empty() {
            break;
        }
        let found = next(session, by, route, &round).await?;
        let none = found.is_empty();
        turns.was(route, round, found.len());
        if none && !goes_on {
            // Another gateway takes them at this moment.
            break;
        }
        claimed.extend(found);
    }
    Ok(claimed)
}

/// Up to so many callers with ready jobs, from the one whose turn it is; each once.
async fn callers(
    session: &Session,
    turns: &Turns,
    route: &str,
    limit: usize,
) -> Read<Vec<Vec<u8>>> {
    let before = turns.of(route).caller;
    let mut found = after(session, route, &before, limit).await?;
    let left = limit - found.len();
    if left > 0 && !before.is_empty() {
        let around = after(session, route, &[], left).await?;
        found.extend(around.into_iter().take_while(|caller| *caller <= before));
    }
    Ok(found)
}

async fn after(session: &Session, route: &str, before: &[u8], limit: usize) -> Read<Vec<Vec<u8>>> {
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let values: [Value; 3] = [
        (&route, Type::TEXT),
        (&before, Type::BYTEA),
        (&limit, Type::INT4),
    ];
    let found = session.ask(CALLERS, &values).await?;
    found.iter().map(|row| get(row, 0)).collect()
}

async fn next(
    session: &Session,
    (gateway, claim): (i64, i64),
    route: &str,
    round: &Round,
) -> Read<Vec<ClaimedJob>> {
    let parts = round.parts.iter();
    let (callers, parts): (Vec<&[u8]>, Vec<i64>) = parts
        .map(|(caller, part)| (caller.as_slice(), many(*part)))
        .unzip();
    let values: [Value; 5] = [
        (&route, Type::TEXT),
        (&callers, Type::BYTEA_ARRAY),
        (&parts, Type::INT8_ARRAY),
        (&gateway, Type::INT8),
        (&claim, Type::INT8),
    ];
    let found = session.ask(NEXT, &values).await?;
    found.iter().map(claimed).collect()
}

fn claimed(row: &Row) -> Read<ClaimedJob> {
    Ok(ClaimedJob {
        job: rows::job(row)?,
        request: StoredRequest {
            method: get(row, JOB_COLUMNS)?,
            path_and_query: get(row, JOB_COLUMNS + 1)?,
            headers: lines::from_text(get(row, JOB_COLUMNS + 2)?),
            body: get::<Vec<u8>>(row, JOB_COLUMNS + 3)?.into(),
        },
    })
}
