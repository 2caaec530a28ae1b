//! Which queued jobs of a route are taken next: callers take turns, by their shares.
//!
//! Round robin over the callers that have due jobs (Nagle, On Packet Switches With Infinite Storage,
//! IEEE Trans. Comm. 1987; `cold::shares` tells how long a turn is); of one caller's the highest priority first, then the oldest deadline,
//! then arrival. Promises: a job costs the same however many wait, of however many callers: the next
//! callers are found by a loose index scan, and jobs that are not due stand in an index of their own
//! until they are (as River's scheduler has it).

use std::collections::BTreeSet;

use rusqlite::{Connection, Row, params};

use super::worker::{Desk, unavailable};
use super::writes::{Apart, Done, all, execute, get, many, request};
use crate::cold::job::{JobId, UnixMillis};
use crate::cold::store::ClaimedJob;

/// Jobs that become ready in one claim at most: what is written while others wait stays short.
const PROMOTED: usize = 256;

/// Makes jobs ready that are due; the partial index `jobs_later` finds them.
pub(super) const PROMOTE: &str = "update jobs set ready = 1 where seq in (select seq from jobs \
    where status = 'queued' and ready = 0 and route = ?1 and due <= ?2 order by due limit ?3)";

/// The next callers after one that have ready jobs of a route: one step in `jobs_ready` for each.
pub(super) const CALLERS: &str = "with recursive turn (owner, place) as (\
    select (select owner from jobs where status = 'queued' and ready = 1 and route = ?1 \
    and owner > ?2 order by owner limit 1), 1 \
    union all \
    select (select jobs.owner from jobs where jobs.status = 'queued' and jobs.ready = 1 \
    and jobs.route = ?1 and jobs.owner > turn.owner order by jobs.owner limit 1), turn.place + 1 \
    from turn where turn.owner is not null and turn.place < ?3) \
    select owner from turn where owner is not null";

/// A caller's next jobs of a route, in the order of `jobs_ready`.
pub(super) const NEXT: &str = "select seq, id from jobs where status = 'queued' and ready = 1 \
    and route = ?1 and owner = ?2 order by priority desc, expires_at, seq limit ?3";

/// Routes with jobs that are ready or not: one step in the index for each.
macro_rules! routes {
    ($ready:literal) => {
        concat!(
            "with recursive found (route) as (\
             select (select route from jobs where status = 'queued' and ready = ",
            $ready,
            " order by route limit 1) union all \
             select (select jobs.route from jobs where jobs.status = 'queued' and jobs.ready = ",
            $ready,
            " and jobs.route > found.route order by jobs.route limit 1) from found \
             where found.route is not null) select route from found where route is not null"
        )
    };
}

/// Routes with jobs that are ready.
pub(super) const READY_ROUTES: &str = routes!("1");

/// Routes with jobs that are due and not ready yet.
pub(super) const DUE_ROUTES: &str = concat!(
    routes!("0"),
    " and exists (select 1 from jobs where jobs.status = 'queued' and jobs.ready = 0 \
     and jobs.route = found.route and jobs.due <= ?1)"
);

/// Routes of which a claim would take jobs.
pub(super) fn due(connection: &Connection, now: UnixMillis) -> rusqlite::Result<Vec<String>> {
    let mut ready = connection.prepare_cached(READY_ROUTES)?;
    let mut later = connection.prepare_cached(DUE_ROUTES)?;
    let read = |row: &Row| row.get(0);
    let all = ready
        .query_map([], read)?
        .chain(later.query_map([now.0], read)?);
    let all: BTreeSet<String> = all.collect::<rusqlite::Result<_>>()?;
    Ok(all.into_iter().collect())
}

pub(super) fn claim(
    desk: &Desk,
    route: &str,
    limit: usize,
    now: UnixMillis,
) -> Done<Vec<Apart<ClaimedJob>>> {
    execute(
        desk,
        PROMOTE,
        params![route, now.0, many(PROMOTED.max(limit))],
    )?;
    let mut claimed = Vec::new();
    let mut left = limit;
    while left > 0 {
        // What one round does not take goes to the next.
        let round = match desk.turns.of(route).rest(left) {
            Some(rest) => rest,
            None => desk.turns.round(callers(desk, route, left)?, left),
        };
        if round.parts.is_empty() {
            break;
        }
        let before = left;
        for (caller, part) in &round.parts {
            let values = params![route, caller, many(*part)];
            let next = all(desk, NEXT, values, |row: &Row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })?;
            left -= next.len();
            for (seq, id) in next {
                claimed.extend(take(desk, seq, &id)?);
            }
        }
        desk.turns.was(route, round, before - left);
    }
    Ok(claimed)
}

/// Up to so many callers with ready jobs, from the one whose turn it is; each once.
fn callers(desk: &Desk, route: &str, limit: usize) -> Done<Vec<Vec<u8>>> {
    let read = |row: &Row| row.get::<_, Vec<u8>>(0);
    let before = desk.turns.of(route).caller;
    let mut found = all(desk, CALLERS, params![route, before, many(limit)], read)?;
    let left = limit - found.len();
    if left > 0 && !before.is_empty() {
        let nobody: &[u8] = &[];
        let around = all(desk, CALLERS, params![route, nobody, many(left)], read)?;
        found.extend(around.into_iter().take_while(|caller| *caller <= before));
    }
    Ok(found)
}

fn take(desk: &Desk, seq: i64, id: &str) -> Done<Option<Apart<ClaimedJob>>> {
    let sql = "update jobs set status = 'running', attempts = attempts + 1, fence = fence + 1 \
               where seq = ?1";
    execute(desk, sql, [seq])?;
    let Some(id) = JobId::parse(id) else {
        return Ok(None);
    };
    let job = get(&desk.connection, &id).map_err(|error| unavailable(&error))?;
    let request = request(desk, &id)?;
    Ok(job
        .zip(request)
        .map(|(job, (request, apart))| (ClaimedJob { job, request }, apart)))
}
