//! Mistakes about where jobs are kept.

use std::time::Duration;

use super::{Found, secret};
use crate::config::{Cold, Postgres, PostgresAddress, is_postgres};

/// Shortest heartbeat: its lease is renewed every 25 ms.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);

pub(super) fn check(cold: &Cold, found: &mut Found) {
    if cold.heartbeat.get() < SHORTEST_HEARTBEAT {
        found.add(
            "cold.heartbeat",
            "must be at least 100ms; a lease of one and a half of these has to outlast a slow write",
        );
    }
    let store = &cold.store;
    let path = store.strip_prefix("sqlite:").unwrap_or_default();
    if is_postgres(store) {
        if let Err(says) = PostgresAddress::parse(store) {
            found.add("cold.store", says);
        }
        postgres(&cold.postgres, found);
    } else if path.is_empty() {
        // An address is not repeated: it may hold a password.
        let what = if store.contains('@') { "this" } else { store };
        let says = format!(
            "`{what}` is no store; write sqlite:shunt.db, or postgres://user@host/database"
        );
        found.add("cold.store", says);
    }
}

fn postgres(postgres: &Postgres, found: &mut Found) {
    if let Some(source) = &postgres.password {
        secret("cold.postgres.password", source, found);
    }
    for (name, zero) in [
        ("writers", postgres.writers == 0),
        ("readers", postgres.readers == 0),
        ("batch", postgres.batch == 0),
        ("queue", postgres.queue == 0),
        ("connect_timeout", postgres.connect_timeout.get().is_zero()),
        (
            "statement_timeout",
            postgres.statement_timeout.get().is_zero(),
        ),
    ] {
        if zero {
            found.add(format!("cold.postgres.{name}"), "must be above 0");
        }
    }
}
