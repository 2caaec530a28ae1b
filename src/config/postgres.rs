//! How a PostgreSQL store is reached: `cold.store = "postgres://user@host:port/database"` and the
//! table `[cold.postgres]`.
//!
//! Promises: a password stands in no address; neither `Debug` nor an error shows one.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Period, Secret, SecretSource};

/// Bounds of a PostgreSQL store.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// The password; absent: the environment variable `PGPASSWORD`, if it is set.
    pub password: Option<SecretSource>,
    /// Connections that write, each a batch at a time.
    pub writers: usize,
    /// Connections that read; each serves many at once.
    pub readers: usize,
    /// Most writes in one transaction.
    pub batch: usize,
    /// Most writes that wait; past it they are refused.
    pub queue: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Period,
    /// Longest run of a statement; one that carries a large body may take six times as long.
    pub statement_timeout: Period,
    /// A job's end that could not be written is tried again for so long.
    pub patience: Period,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            password: None,
            writers: 2,
            readers: 2,
            batch: 256,
            queue: 4_096,
            connect_timeout: Period::from_secs(3),
            statement_timeout: Period::from_secs(5),
            patience: Period::from_secs(60),
        }
    }
}

impl Postgres {
    /// Reads the password.
    ///
    /// # Errors
    /// A sentence that names the variable or file.
    pub fn read_password(&self) -> Result<Option<Secret>, String> {
        if let Some(source) = &self.password {
            return source.read().map(Some);
        }
        let set = std::env::var("PGPASSWORD").ok();
        Ok(set.filter(|one| !one.is_empty()).map(Secret::new))
    }
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Cleartext.
    Disable,
    /// TLS where the server offers it, whoever it is.
    #[default]
    Prefer,
    /// TLS to a server whose certificate one of the trusted roots vouches for.
    Verify,
}

/// Where a PostgreSQL store is.
#[derive(Clone)]
pub struct PostgresAddress {
    /// Hosts, ports, user, database and options; without a password.
    pub config: tokio_postgres::Config,
    /// Whether TLS is spoken.
    pub tls: SslMode,
    /// PEM file of further roots to trust, besides the system's.
    pub root: Option<PathBuf>,
}

/// Whether a store's name is that of a PostgreSQL database.
pub fn is_postgres(store: &str) -> bool {
    store.starts_with("postgres:") || store.starts_with("postgresql:")
}

impl PostgresAddress {
    /// Reads an address; `sslmode` (`disable`, `prefer`, `require`, `verify-ca`, `verify-full`)
    /// and `sslrootcert` are understood besides what the client library knows.
    ///
    /// # Errors
    /// A sentence that shows nothing of the address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let authority = base.split_once("://").map_or("", |(_, rest)| rest);
        // The last `@` ends the user: a password may hold another.
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        let (mut tls, mut root, mut rest) = (SslMode::default(), None, Vec::new());
        let mut secret = user.contains(':');
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "sslmode" => tls = mode(value)?,
                "sslrootcert" => root = Some(PathBuf::from(value)),
                "password" => secret = true,
                _ => rest.push(pair),
            }
        }
        if secret {
            return Err(
                "holds a password; leave it out of the address and give it by PGPASSWORD or \
                 cold.postgres.password"
                    .into(),
            );
        }
        let address = format!("{base}?{}", rest.join("&"));
        let wrong = "is no address of a database; write postgres://user@host:5432/database";
        let config: tokio_postgres::Config = address.parse().map_err(|_| wrong.to_owned())?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(wrong.into());
        }
        Ok(Self { config, tls, root })
    }
}

fn mode(value: &str) -> Result<SslMode, String> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "allow" | "prefer" => Ok(SslMode::Prefer),
        "require" | "verify-ca" | "verify-full" => Ok(SslMode::Verify),
        _ => Err("has an unknown sslmode; write disable, prefer, require or verify-full".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(address: &str) -> String {
        PostgresAddress::parse(address).err().unwrap()
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for address in [
            "postgres://me:hunter2@db/jobs",
            "postgres://me:hunter2@x@db/jobs",
            "postgres://me@db/jobs?password=hunter2",
        ] {
            let why = why(address);
            assert!(why.contains("PGPASSWORD"), "{why}");
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for address in [
            "postgres://",
            "postgres://db",
            "postgres:jobs",
            "postgres://db:x/jobs",
            "postgres://db/jobs?sslmode=maybe",
            "postgres://db/jobs?colour=red",
        ] {
            assert!(why(address).contains("write "), "{address}");
        }
    }

    #[test]
    fn an_address_tells_where_and_how() {
        let found = PostgresAddress::parse(
            "postgresql://me@db:5433/jobs?sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=9",
        );
        let found = found.unwrap();
        assert_eq!(found.tls, SslMode::Verify);
        assert_eq!(found.root, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(found.config.get_user(), Some("me"));
        assert_eq!(found.config.get_dbname(), Some("jobs"));
        assert_eq!(found.config.get_ports(), [5433]);
        let socket = PostgresAddress::parse("postgres://me@%2Frun%2Fpostgresql/jobs").unwrap();
        assert_eq!(socket.tls, SslMode::Prefer);
    }
}
