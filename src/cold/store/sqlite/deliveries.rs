//! The statements of callbacks' deliveries.

use rusqlite::{Connection, params};

use super::worker::{Desk, unavailable};
use super::writes::{Done, all, execute, get, many};
use crate::cold::job::{Job, JobId, UnixMillis};
use crate::cold::store::{Delivery, DeliveryOutcome};

/// The due deliveries; the partial index `deliveries_due` answers it.
pub(super) const DUE: &str = "select webhook_id, (select id from jobs where seq = job), replayed_at \
    from deliveries where state = 'pending' and due <= ?1 order by due limit ?2";

/// The dead deliveries; the partial index `deliveries_dead` answers it.
pub(super) const DEAD: &str = "select (select id from jobs where seq = job) from deliveries where state = 'dead' \
    order by died_at desc limit ?1";

pub(super) fn claim(
    desk: &Desk,
    limit: usize,
    now: UnixMillis,
    until: UnixMillis,
) -> Done<Vec<Delivery>> {
    let due = all(desk, DUE, params![now.0, many(limit)], |row| {
        let names = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        Ok((names, row.get::<_, Option<i64>>(2)?))
    })?;
    let mut claimed = Vec::with_capacity(due.len());
    for ((webhook_id, job_id), replayed) in due {
        let sql = "update deliveries set due = ?2, claimed = 1 where webhook_id = ?1";
        execute(desk, sql, params![webhook_id, until.0])?;
        let Some(id) = JobId::parse(&job_id) else {
            continue;
        };
        let job = get(&desk.connection, &id).map_err(|error| unavailable(&error))?;
        if let Some(job) = job {
            let replayed = replayed.map(UnixMillis);
            claimed.push(Delivery {
                webhook_id,
                since: replayed.or(job.finished_at).unwrap_or(now),
                job,
            });
        }
    }
    Ok(claimed)
}

pub(super) fn delivered(desk: &Desk, id: &str, outcome: &DeliveryOutcome) -> Done<()> {
    // What was acknowledged stays so, whoever comes late.
    let sql = "update deliveries set state = ?2, due = ?3, last_error = ?4, died_at = ?5, \
               claimed = 0, deliveries = deliveries + 1 \
               where webhook_id = ?1 and (state = 'pending' or ?2 = 'delivered')";
    let done = match outcome {
        DeliveryOutcome::Delivered => {
            let nothing = None::<i64>;
            let values = params![id, "delivered", nothing, None::<String>, nothing];
            execute(desk, sql, values)
        }
        DeliveryOutcome::Later { at, error } => {
            execute(desk, sql, params![id, "pending", at.0, error, None::<i64>])
        }
        DeliveryOutcome::Dead { at, error } => {
            execute(desk, sql, params![id, "dead", None::<i64>, error, at.0])
        }
        DeliveryOutcome::PutOff { at, why } => execute(
            desk,
            "update deliveries set due = ?2, last_error = coalesce(?3, last_error), claimed = 0 \
             where webhook_id = ?1 and state = 'pending'",
            params![id, at.0, why],
        ),
    };
    done.map(|_| ())
}

pub(super) fn dead(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<Job>> {
    let mut statement = connection.prepare_cached(DEAD)?;
    let found = statement.query_map([many(limit)], |row| row.get::<_, String>(0))?;
    let mut jobs = Vec::new();
    for id in found {
        if let Some(id) = JobId::parse(&id?) {
            jobs.extend(get(connection, &id)?);
        }
    }
    Ok(jobs)
}

pub(super) fn count_dead(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "select count(*) from deliveries where state = 'dead'";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))
}

pub(super) fn replay(desk: &Desk, id: &JobId, now: UnixMillis) -> Done<Option<Job>> {
    let sql = "update deliveries set state = 'pending', due = ?2, deliveries = 0, died_at = null, \
               replayed_at = ?2 where claimed = 0 and job = \
               (select seq from jobs where id = ?1 and finished_at is not null)";
    if execute(desk, sql, params![id.as_str(), now.0])? == 0 {
        return Ok(None);
    }
    get(&desk.connection, id).map_err(|error| unavailable(&error))
}
