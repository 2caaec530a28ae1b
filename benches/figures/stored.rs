//! The stores that figures are measured on, and how they are filled with jobs that wait.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::cluster::Cluster;

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Sqlite,
    Postgres,
}

impl fmt::Display for Stored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

impl Stored {
    /// Those that are asked for by `--sqlite` and `--postgres`; without either both.
    pub fn asked(arguments: &[String]) -> Vec<Self> {
        let named = |name: &str| arguments.iter().any(|one| one == name);
        let both = !named("--sqlite") && !named("--postgres");
        let mut asked = Vec::new();
        asked.extend((both || named("--sqlite")).then_some(Self::Sqlite));
        asked.extend((both || named("--postgres")).then_some(Self::Postgres));
        asked
    }

    /// A new cluster, where it needs one.
    pub fn cluster(self) -> Result<Option<Cluster>> {
        match self {
            Self::Sqlite => Ok(None),
            Self::Postgres => Cluster::start().map(Some),
        }
    }
}

/// What `cold.store` says: the cluster, or a file in the folder.
pub fn url(cluster: Option<&Cluster>, folder: &Path) -> String {
    let file = || format!("sqlite:{}/jobs.db", folder.display());
    cluster.map_or_else(file, Cluster::url)
}

/// What the copies of a job have of their own; every other column is the pattern's.
const JOBS: [(&str, &str); 11] = [
    ("id", "'job_' || n.name"),
    ("status", "'queued'"),
    ("created_at", "created_at + n.later"),
    ("expires_at", "expires_at + n.later"),
    ("due", "due + n.later"),
    ("ready", "n.later = 0"),
    ("finished_at", "null"),
    ("attempts", "0"),
    ("fence", "0"),
    ("gateway", "null"),
    ("claim", "null"),
];

const REQUESTS: [(&str, &str); 2] = [("job_id", "'job_' || n.name"), ("job", JOB)];

/// A job's number in a file.
const JOB: &str = "(select seq from jobs where id = 'job_' || n.name)";

const DELIVERIES: [(&str, &str); 8] = [
    ("webhook_id", "'msg_' || n.told"),
    ("job_id", "'job_' || n.name"),
    ("job", JOB),
    ("state", "'pending'"),
    ("due", "null"),
    ("gateway", "null"),
    ("claimed", "0"),
    ("deliveries", "0"),
];

/// Copies the one job of a store that no gateway has open, so often, as jobs that were never tried and
/// are due so many milliseconds later than it was.
///
/// # Errors
/// What the store says.
pub fn multiply(cluster: Option<&Cluster>, folder: &Path, count: usize, later: u64) -> Result<()> {
    // Names of deliveries begin with their time: a million have come one after another.
    let (name, time) = match cluster {
        Some(_) => (
            "replace(gen_random_uuid()::text, '-', '')",
            "lpad(to_hex(g), 12, '0')",
        ),
        None => ("lower(hex(randomblob(16)))", "printf('%012x', g)"),
    };
    let mut script = format!(
        "create temp table n as with recursive s (g) as (select 1 union all select g + 1 from s \
         where g < {count}) select {name} as name, {time} || substr({name}, 13) as told, \
         {later} as later from s;\n"
    );
    let columns = match cluster {
        Some(cluster) => cluster.query(
            "select table_name || '.' || column_name from information_schema.columns \
             where table_schema = 'shunt' order by ordinal_position",
        )?,
        None => columns(folder)?,
    };
    for (table, own) in [
        ("jobs", &JOBS[..]),
        ("requests", &REQUESTS[..]),
        ("deliveries", &DELIVERIES[..]),
    ] {
        script += &copy(&columns, table, own);
    }
    match cluster {
        Some(cluster) => {
            cluster.query(&script)?;
            cluster.query("vacuum analyze")?;
        }
        None => open(folder)?.execute_batch(&format!("begin; {script} commit; analyze;"))?,
    }
    Ok(())
}

fn open(folder: &Path) -> Result<rusqlite::Connection> {
    rusqlite::Connection::open(folder.join("jobs.db")).context("the store's file")
}

/// `table.column` of a file.
fn columns(folder: &Path) -> Result<Vec<String>> {
    let connection = open(folder)?;
    let mut statement = connection.prepare(
        "select m.name || '.' || c.name from sqlite_schema m, pragma_table_info(m.name) c \
         where m.type = 'table'",
    )?;
    let found = statement.query_map([], |row| row.get(0))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn copy(columns: &[String], table: &str, own: &[(&str, &str)]) -> String {
    let names = columns.iter().filter_map(|one| {
        let (of, column) = one.split_once('.')?;
        // Where rows are numbered, each copy gets a number of its own.
        (of == table && column != "seq").then_some(column)
    });
    let names: Vec<&str> = names.collect();
    let values = names.iter().map(|name| {
        let found = own.iter().find(|(one, _)| one == name);
        found.map_or(*name, |(_, value)| *value)
    });
    let values: Vec<&str> = values.collect();
    format!(
        "insert into {table} ({}) select {} from {table}, n;\n",
        names.join(", "),
        values.join(", ")
    )
}
