//! Deletes what is old, for a few milliseconds at a time.
//!
//! Promises: a step holds the writer up for about 10 ms; jobs that are kept longer,
//! because their callback is, are passed by once a round, not at each step.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use rusqlite::params;

use super::worker::Desk;
use super::writes::{Done, all, execute, many};
use crate::cold::job::UnixMillis;

/// The longest that one step deletes.
const LONGEST: Duration = Duration::from_millis(4);

/// Jobs deleted in one step: each touches some six pages anywhere in the file, which the commit
/// writes. 50 take about 10 ms with it, 400 more than 100.
const MOST: usize = 32;

/// Jobs looked at in one query.
const SOME: usize = 100;

/// Old jobs in the order of their ends, and whether their callback keeps them; the partial index
/// `jobs_finished` answers it.
pub(super) const OLD: &str = "select seq, finished_at, exists (select 1 from deliveries d \
    where d.job = jobs.seq and (d.state = 'pending' or d.died_at >= ?1)) from jobs \
    where finished_at is not null and finished_at < ?1 and (finished_at, seq) > (?2, ?3) \
    order by finished_at, seq limit ?4";

/// Before every job: where a round begins.
pub(super) const START: (i64, i64) = (i64::MIN, i64::MIN);

/// Gives how many went, and whether that was the last of a round.
pub(super) fn sweep(desk: &Desk, limit: usize, before: UnixMillis) -> Done<(u64, bool)> {
    let began = Instant::now();
    let over = |swept: usize| swept >= limit.min(MOST) || began.elapsed() >= LONGEST;
    // Each is begun, however slow the machine is: no step is for nothing.
    let kept = answers(desk, before, over)?;
    let jobs = jobs(desk, before, over)?;
    Ok(((kept + jobs) as u64, desk.swept.get() == START))
}

/// Deletes what was kept under keys.
fn answers(desk: &Desk, before: UnixMillis, over: impl Fn(usize) -> bool) -> Done<usize> {
    let sql = "delete from kept where name in (select name from kept where at < ?1 order by at \
               limit 1)";
    let mut swept = 0;
    while execute(desk, sql, [before.0])? > 0 {
        swept += 1;
        if over(swept) {
            break;
        }
    }
    Ok(swept)
}

/// Deletes finished jobs, from where the last step stopped.
fn jobs(desk: &Desk, before: UnixMillis, over: impl Fn(usize) -> bool) -> Done<usize> {
    let mut swept = 0;
    loop {
        let (at, seq) = desk.swept.get();
        let values = params![before.0, at, seq, many(SOME)];
        let found = all(desk, OLD, values, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, bool>(2)?))
        })?;
        let last = found.len() < SOME;
        for (seq, finished_at, is_kept) in found {
            desk.swept.set((finished_at, seq));
            if !is_kept {
                swept += execute(desk, "delete from jobs where seq = ?1", [seq])?;
                if over(swept) {
                    return Ok(swept);
                }
            }
        }
        if last {
            desk.swept.set(START);
            return Ok(swept);
        }
        if over(swept) {
            return Ok(swept);
        }
    }
}
