//! The statements that write many histories, kept answers and delivery outcomes at once.
//!
//! Promises: as `writes`; but a history that is sent again would stand twice.

use tokio_postgres::types::Type;

use super::link::{Fault, Session, Value};
use super::rows::text;
use super::writes::{BYTES, NUMBERS, TEXTS, each};
use crate::cold::history::{AttemptRecord, KEPT};
use crate::cold::job::JobId;
use crate::cold::recall::Kept;
use crate::cold::store::DeliveryOutcome;
use crate::cold::store::lines;

/// Attempts of a job that ended.
pub(super) struct Note {
    pub id: JobId,
    pub records: Vec<AttemptRecord>,
}

/// What came of a delivery.
pub(super) struct Told {
    pub name: String,
    pub outcome: DeliveryOutcome,
}

const NOTE: &str = "insert into shunt.history (job_id, number, target, began, ended, result, \
    status, error, gateway) select t.id, t.number, t.target, t.began, t.ended, t.result, t.status, \
    t.error, t.gateway from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], \
    $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::text[]) with ordinality as t (id, \
    number, target, began, ended, result, status, error, gateway, place) \
    where exists (select 1 from shunt.jobs j where j.id = t.id) order by t.place";

const TRIM: &str = "delete from shunt.history h using unnest($1::text[]) as t (id) \
    where h.job_id = t.id and h.seq <= (select o.seq from shunt.history o where o.job_id = t.id \
    order by o.seq desc limit 1 offset $2)";

/// Adds attempts to histories.
pub(super) async fn note(session: &Session, items: &[&Note]) -> Result<(), Fault> {
    if items.is_empty() {
        return Ok(());
    }
    let all = items.iter();
    let all = all.flat_map(|one| one.records.iter().map(|record| (one.id.as_str(), record)));
    let (ids, records): (Vec<&str>, Vec<&AttemptRecord>) = all.unzip();
    let values: [Value; 9] = [
        (&ids, TEXTS),
        (&each(&records, |one| i64::from(one.number)), NUMBERS),
        (
            &each(&records, |one| one.target.as_deref().map(text)),
            TEXTS,
        ),
        (&each(&records, |one| one.began.map(|at| at.0)), NUMBERS),
        (&each(&records, |one| one.ended.0), NUMBERS),
        (&each(&records, |one| text(&one.result)), TEXTS),
        (&each(&records, |one| one.status.map(i64::from)), NUMBERS),
        (&each(&records, |one| one.error.as_deref().map(text)), TEXTS),
        (&each(&records, |one| text(&one.gateway)), TEXTS),
    ];
    let kept = i64::from(KEPT);
    let trim: [Value; 2] = [(&ids, TEXTS), (&kept, Type::INT8)];
    // Sent together: what is trimmed is seen after what is added.
    let (noted, trimmed) =
        futures_util::join!(session.ask(NOTE, &values), session.ask(TRIM, &trim));
    noted?;
    trimmed.map(drop)
}

const KEEP: &str = "insert into shunt.kept as k (name, print, at, job_id, status, headers, body) \
    select * from unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::text[], $5::bigint[], \
    $6::bytea[], $7::bytea[]) on conflict (name) do update set at = excluded.at, \
    job_id = excluded.job_id, status = excluded.status, headers = excluded.headers, \
    body = excluded.body where k.print = excluded.print";

/// Keeps what became of calls.
pub(super) async fn keep(session: &Session, items: &[&Kept]) -> Result<(), Fault> {
    if items.is_empty() {
        return Ok(());
    }
    let values: [Value; 7] = [
        (&each(items, |one| &one.key.name[..]), BYTES),
        (&each(items, |one| &one.key.print[..]), BYTES),
        (&each(items, |one| one.at.0), NUMBERS),
        (&each(items, |one| one.job().map(JobId::as_str)), TEXTS),
        (
            &each(items, |one| one.answer().map(|one| i64::from(one.status))),
            NUMBERS,
        ),
        (
            &each(items, |one| {
                one.answer().map(|one| lines::to_text(&one.headers))
            }),
            BYTES,
        ),
        (
            &each(items, |one| one.answer().map(|one| &one.body[..])),
            BYTES,
        ),
    ];
    session.ask(KEEP, &values).await.map(drop)
}

// What was acknowledged stays so, and to say it twice counts once.
const TOLD: &str = "with given as (select * from unnest($1::text[], $2::text[], $3::bigint[], \
    $4::text[], $5::bigint[], $6::bigint[]) as t (name, state, due, error, died, counts)) \
    update shunt.deliveries d set state = g.state, due = g.due, died_at = g.died, gateway = null, \
    last_error = case when g.counts = 0 then coalesce(g.error, d.last_error) else g.error end, \
    deliveries = d.deliveries + case when d.state = 'delivered' then 0 else g.counts end \
    from given g where d.webhook_id = g.name and (d.state = 'pending' or g.state = 'delivered')";

/// Writes what came of deliveries.
pub(super) async fn told(session: &Session, items: &[&Told]) -> Result<(), Fault> {
    if items.is_empty() {
        return Ok(());
    }
    let rows: Vec<Columns> = items.iter().map(|one| columns(&one.outcome)).collect();
    let rows: Vec<&Columns> = rows.iter().collect();
    let values: [Value; 6] = [
        (&each(items, |one| text(&one.name)), TEXTS),
        (&each(&rows, |row| row.0), TEXTS),
        (&each(&rows, |row| row.1), NUMBERS),
        (&each(&rows, |row| row.2.as_deref()), TEXTS),
        (&each(&rows, |row| row.3), NUMBERS),
        (&each(&rows, |row| row.4), NUMBERS),
    ];
    session.ask(TOLD, &values).await.map(drop)
}

/// State, due, error, end, and what it counts.
type Columns = (&'static str, Option<i64>, Option<String>, Option<i64>, i64);

fn columns(outcome: &DeliveryOutcome) -> Columns {
    match outcome {
        DeliveryOutcome::Delivered => ("delivered", None, None, None, 1),
        DeliveryOutcome::Later { at, error } => ("pending", Some(at.0), Some(text(error)), None, 1),
        DeliveryOutcome::Dead { at, error } => ("dead", None, Some(text(error)), Some(at.0), 1),
        DeliveryOutcome::PutOff { at, why } => {
            ("pending", Some(at.0), why.as_deref().map(text), None, 0)
        }
    }
}
