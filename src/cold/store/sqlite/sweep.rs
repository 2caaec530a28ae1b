//! Deletes what is old, for a few milliseconds at a time.
//!
//! Promises: a step holds the writer up for `LONGEST` and one deletion; jobs that are kept longer,
//! because their callback is, are passed by once a round, not at each step.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::worker::Desk;
use super::writes::{Done, all, execute, many};
use crate::cold::job::UnixMillis;

/// The longest that one step deletes. What it deleted is then written: about as long again.
const LONGEST: Duration = Duration::from_millis(4);

/// Jobs looked at in one query.
const SOME: usize = 100;

/// Old jobs in the order of their ends, and whether their callback keeps them; the partial index
/// `jobs_finished` answers it.
pub(super) const OLD: &str = "select seq, finished_at, exists (select 1 from deliveries d \
    where d.job_id = jobs.id and (d.state = 'pending' or d.died_at >= ?1)) from jobs \
    where finished_at is not null and finished_at < ?1 and (finished_at, seq) > (?2, ?3) \
    order by finished_at, seq limit ?4";

/// Before every job: where a round begins.
pub(super) const START: (i64, i64) = (i64::MIN, i64::MIN);

pub(super) fn sweep(desk: &Desk, limit: usize, before: UnixMillis) -> Done<u64> {
    let began = Instant::now();
    let goes_on = |swept: usize| swept < limit && began.elapsed() < LONGEST;
    let mut kept = 0;
    while goes_on(kept) {
        let sql = "delete from kept where name in (select name from kept where at < ?1 \
                   order by at limit ?2)";
        let some = SOME.min(limit - kept);
        let deleted = execute(desk, sql, params![before.0, many(some)])?;
        kept += deleted;
        if deleted < some {
            break;
        }
    }
    let mut jobs = 0;
    while goes_on(jobs) {
        let (at, seq) = desk.swept.get();
        let values = params![before.0, at, seq, many(SOME)];
        let found = all(desk, OLD, values, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, bool>(2)?))
        })?;
        let last = found.len() < SOME;
        for (seq, finished_at, is_kept) in found {
            if !goes_on(jobs) {
                return Ok((jobs + kept) as u64);
            }
            if !is_kept {
                jobs += execute(desk, "delete from jobs where seq = ?1", [seq])?;
            }
            desk.swept.set((finished_at, seq));
        }
        if last {
            desk.swept.set(START);
            break;
        }
    }
    Ok((jobs + kept) as u64)
}
