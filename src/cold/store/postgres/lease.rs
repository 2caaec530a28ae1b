//! Leases of gateways, on the database's clock (Gray and Cheriton, Leases, SOSP 1989).
//!
//! Promises: a heartbeat is one statement, so that no gateway that stops in its midst holds a lock;
//! what a gateway whose lease has ended runs or delivers is queued again by whoever beats next, if
//! that one has renewed its own without a break for a whole lease: only then was it the gateway
//! that was silent, and not the database. Rows that somebody writes at that moment are left to the
//! next heartbeat.

use tokio_postgres::types::Type;

use super::link::{Session, Value};
use super::rows::{Read, get, number};
use crate::cold::job::{JobId, UnixMillis};

/// What a heartbeat did.
pub(super) struct Pulse {
    /// Whether nobody had taken this gateway for dead.
    pub alive: bool,
    /// Jobs queued again.
    pub rescued: u64,
    /// Their routes.
    pub routes: Vec<String>,
    /// Whether deliveries are due again.
    pub deliveries: bool,
}

/// Queues again what runs for gateways that a condition names, and tells it in their histories.
macro_rules! requeue {
    ($jobs:literal, $deliveries:literal) => {
        concat!(
            "gone as (select j.id, j.gateway from shunt.jobs j where j.status = 'running' and ",
            $jobs,
            " for update skip locked), \
             lost as (update shunt.jobs j set status = 'queued', ready = false, due = $2, gateway = null, \
             claim = null from gone where j.id = gone.id and j.status = 'running' \
             returning j.id, j.route, j.attempts, gone.gateway), \
             noted as (insert into shunt.history (job_id, number, ended, result, gateway) \
             select l.id, greatest(l.attempts, 1), $2, 'lost', \
             coalesce(g.name, 'a process that ended') \
             from lost l left join shunt.gateways g on g.id = l.gateway), \
             held as (select d.webhook_id from shunt.deliveries d where d.gateway is not null and ",
            $deliveries,
            " for update skip locked), \
             again as (update shunt.deliveries d set due = $2, gateway = null from held \
             where d.webhook_id = held.webhook_id and d.state = 'pending' returning 1) "
        )
    };
}

// A gateway that is taken for dead loses its row: it learns of it by its next heartbeat. Its row is
// looked at once more when it is locked, so that one that renews at this moment stays. Whoever renews
// after more than half a lease begins anew as a witness.
const BEAT: &str = concat!(
    "with was as (select lease_until > statement_timestamp() as alive, \
     lease_until > statement_timestamp() + $4 * interval '0.5 milliseconds' \
     and since <= statement_timestamp() - $4 * interval '1 millisecond' as witness \
     from shunt.gateways where id = $1), \
     mine as (insert into shunt.gateways as g (id, name, lease_until, since) \
     values ($1, $3, statement_timestamp() + $4 * interval '1 millisecond', statement_timestamp()) \
     on conflict (id) do update set lease_until = excluded.lease_until, since = case \
     when g.lease_until > statement_timestamp() + $4 * interval '0.5 milliseconds' \
     then g.since else excluded.since end), \
     may as (select not exists (select 1 from was where not alive) as rescue), \
     dead as (delete from shunt.gateways g where g.lease_until <= statement_timestamp() \
     and g.id <> $1 and exists (select 1 from was where witness) returning g.id), ",
    requeue!(
        "(select rescue from may) and j.gateway is distinct from $1 \
         and (j.gateway in (select id from dead) \
         or not exists (select 1 from shunt.gateways g where g.id = j.gateway))",
        "(select rescue from may) and d.gateway <> $1 \
         and (d.gateway in (select id from dead) \
         or not exists (select 1 from shunt.gateways g where g.id = d.gateway))"
    ),
    "select exists (select 1 from was), (select count(*) from lost), \
     array(select distinct route from lost), (select count(*) from again)"
);

const LEAVE: &str = concat!(
    "with ended as (delete from shunt.gateways where id = $1), ",
    requeue!("j.gateway = $1", "d.gateway = $1"),
    "select true, (select count(*) from lost), array(select distinct route from lost), \
     (select count(*) from again)"
);

async fn pulse(session: &Session, sql: &str, values: &[Value<'_>]) -> Read<Pulse> {
    let found = session.ask(sql, values).await?;
    let Some(row) = found.first() else {
        return Ok(Pulse {
            alive: true,
            rescued: 0,
            routes: Vec::new(),
            deliveries: false,
        });
    };
    Ok(Pulse {
        alive: get(row, 0)?,
        rescued: get::<i64>(row, 1)?.unsigned_abs(),
        routes: get(row, 2)?,
        deliveries: get::<i64>(row, 3)? > 0,
    })
}

/// Renews a gateway's lease, and queues again what ran without one.
pub(super) async fn beat(
    session: &Session,
    (gateway, name): (i64, &str),
    millis: i64,
    now: UnixMillis,
) -> Read<Pulse> {
    let values: [Value; 4] = [
        (&gateway, Type::INT8),
        (&now.0, Type::INT8),
        (&name, Type::TEXT),
        (&millis, Type::INT8),
    ];
    pulse(session, BEAT, &values).await
}

/// Queues again what a gateway took and does not know of, as if that had not been tried. What was
/// handed over to it was never taken: it may be written this moment, later than what is known was
/// listed. Gives the route of each.
pub(super) async fn strays(
    session: &Session,
    gateway: i64,
    held: &[(JobId, u64)],
    now: UnixMillis,
) -> Read<Vec<String>> {
    let names: Vec<&str> = held.iter().map(|(id, _)| id.as_str()).collect();
    let fences: Vec<i64> = held.iter().map(|(_, fence)| number(*fence)).collect();
    let sql = "update shunt.jobs j set status = 'queued', ready = false, due = $2, gateway = null, \
               claim = null, attempts = greatest(attempts - 1, 0) where status = 'running' \
               and gateway = $1 and claim is not null and not exists (select 1 from unnest($3::text[], $4::bigint[]) \
               as held (id, fence) where held.id = j.id and held.fence = j.fence) returning route";
    let values: [Value; 4] = [
        (&gateway, Type::INT8),
        (&now.0, Type::INT8),
        (&names, Type::TEXT_ARRAY),
        (&fences, Type::INT8_ARRAY),
    ];
    let found = session.ask(sql, &values).await?;
    found.iter().map(|row| get(row, 0)).collect()
}

/// Ends a gateway's lease, and queues again what it ran.
pub(super) async fn leave(session: &Session, gateway: i64, now: UnixMillis) -> Read<Pulse> {
    let values: [Value; 2] = [(&gateway, Type::INT8), (&now.0, Type::INT8)];
    pulse(session, LEAVE, &values).await
}
