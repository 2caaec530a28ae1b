//! Brings a database to this gateway's schema, whoever else starts at the same time.
//!
//! Promises: one gateway migrates at a time, in one transaction; a gateway works on a newer schema
//! as long as that says it is compatible with the gateway's own, and is refused in a sentence
//! otherwise.

use tokio_postgres::types::Type;

use super::link::{Fault, Session, Value};
use super::rows::{Read, get};
use crate::cold::store::StoreError;

/// What brings the schema to a version.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// Statements.
    pub sql: &'static str,
    /// The oldest version that a gateway may know to work on the schema after this step: of
    /// itself when something was taken away or changed its meaning, of the step before when it
    /// only adds.
    pub compatible_from: i64,
}

/// The steps to this version; append only.
pub(super) const STEPS: [Step; 1] = [Step {
    sql: include_str!("migrations/0001_jobs.sql"),
    compatible_from: 1,
}];

/// "shunt" in ASCII.
const LOCK: i64 = 0x0073_6875_6e74;

const VERSIONS: &str = "create table if not exists shunt.schema_versions (\
    version bigint primary key, compatible_from bigint not null, \
    applied_at timestamptz not null default current_timestamp)";

/// The newest version, and with which it is compatible.
async fn newest(session: &Session) -> Read<(i64, i64)> {
    let sql = "select version, compatible_from from shunt.schema_versions \
               order by version desc limit 1";
    let found = session.ask(sql, &[]).await?;
    found
        .first()
        .map_or(Ok((0, 0)), |row| Ok((get(row, 0)?, get(row, 1)?)))
}

async fn is_there(session: &Session) -> Read<bool> {
    let sql = "select 1 from information_schema.tables \
               where table_schema = 'shunt' and table_name = 'schema_versions'";
    session.ask(sql, &[]).await.map(|found| !found.is_empty())
}

/// Whether a gateway that knows `ours` works on what is there; `false`: it is older.
fn fits(ours: i64, (version, compatible_from): (i64, i64)) -> Read<bool> {
    if version > ours && compatible_from > ours {
        let why = format!(
            "the schema in PostgreSQL has version {version} and needs a gateway that knows version \
             {compatible_from}; this one knows {ours}: upgrade it, or name another cold.store"
        );
        return Err(Fault::Refused(StoreError::Unavailable(why)));
    }
    Ok(version >= ours)
}

/// Brings the schema up.
pub(super) async fn migrate(session: &Session, steps: &[Step]) -> Read<()> {
    let ours = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    // In the usual case nothing is locked.
    if is_there(session).await? && fits(ours, newest(session).await?)? {
        return Ok(());
    }
    session.tell("begin").await?;
    let done = locked(session, ours, steps).await;
    let end = if done.is_ok() { "commit" } else { "rollback" };
    let ended = session.tell(end).await;
    done?;
    ended
}

async fn locked(session: &Session, ours: i64, steps: &[Step]) -> Read<()> {
    let lock: [Value; 1] = [(&LOCK, Type::INT8)];
    session
        .ask("select pg_advisory_xact_lock($1)", &lock)
        .await?;
    if !is_there(session).await? {
        let sql = "select 1 from information_schema.schemata where schema_name = 'shunt'";
        if session.ask(sql, &[]).await?.is_empty() {
            session.tell("create schema shunt").await?;
        }
        session.tell(VERSIONS).await?;
    }
    let there = newest(session).await?;
    if fits(ours, there)? {
        return Ok(());
    }
    let done = usize::try_from(there.0).unwrap_or(0);
    for (step, version) in steps.iter().zip(1i64..).skip(done) {
        session.tell(step.sql).await?;
        let sql = "insert into shunt.schema_versions (version, compatible_from) values ($1, $2)";
        let values: [Value; 2] = [(&version, Type::INT8), (&step.compatible_from, Type::INT8)];
        session.ask(sql, &values).await?;
    }
    Ok(())
}
