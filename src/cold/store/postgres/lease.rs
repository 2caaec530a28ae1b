//! Leases of gateways, on the database's clock (Gray and Cheriton, Leases, SOSP 1989).
//!
//! Promises: a heartbeat is one statement, so that no gateway that stops in its midst holds a lock;
//! what a gateway without a lease runs or delivers is queued again by whoever beats next, itself
//! too. Rows that somebody writes at that moment are left to the next heartbeat.

use tokio_postgres::types::Type;

use super::link::{Session, Value};
use super::rows::{Read, get};
use crate::cold::job::UnixMillis;

/// What a heartbeat did.
pub(super) struct Pulse {
    /// Whether this gateway had a lease.
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
             lost as (update shunt.jobs j set status = 'queued', due = $2, gateway = null, \
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

const BEAT: &str = concat!(
    "with was as (select lease_until > statement_timestamp() as alive from shunt.gateways \
     where id = $1), \
     mine as (insert into shunt.gateways (id, name, lease_until) \
     values ($1, $3, statement_timestamp() + $4 * interval '1 millisecond') \
     on conflict (id) do update set lease_until = excluded.lease_until), ",
    requeue!(
        "not exists (select 1 from shunt.gateways g where g.id = j.gateway \
         and g.lease_until > statement_timestamp())",
        "not exists (select 1 from shunt.gateways g where g.id = d.gateway \
         and g.lease_until > statement_timestamp())"
    ),
    "select coalesce((select alive from was), false), (select count(*) from lost), \
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

/// Ends a gateway's lease, and queues again what it ran.
pub(super) async fn leave(session: &Session, gateway: i64, now: UnixMillis) -> Read<Pulse> {
    let values: [Value; 2] = [(&gateway, Type::INT8), (&now.0, Type::INT8)];
    pulse(session, LEAVE, &values).await
}
