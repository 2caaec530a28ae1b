//! Where the suite opens each store.

use std::sync::Arc;

use crate::cold::store::SharedStore;
use crate::cold::store::memory::{Kept, MemoryStore};
use crate::cold::store::postgres::{self, cluster};
use crate::cold::store::sqlite::SqliteStore;

/// Where a store is opened, more than once where a restart is meant.
pub trait Place: Default {
    /// Another opening of the same store.
    fn open(&self, queue_limit: u64) -> SharedStore;
}

/// `SQLite`, in a folder of its own.
pub struct Folder(pub tempfile::TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Place for Folder {
    fn open(&self, queue_limit: u64) -> SharedStore {
        Arc::new(SqliteStore::open(&self.0.path().join("jobs.db"), queue_limit).unwrap())
    }
}

impl Place for Kept {
    fn open(&self, queue_limit: u64) -> SharedStore {
        Arc::new(MemoryStore::open(self, queue_limit))
    }
}

/// `PostgreSQL`, in a database of its own.
pub struct Database(String);

impl Default for Database {
    fn default() -> Self {
        let cluster = cluster::shared();
        Self(cluster.address(&cluster.database()))
    }
}

impl Place for Database {
    fn open(&self, queue_limit: u64) -> SharedStore {
        Arc::new(postgres::tests::open(&self.0, queue_limit).unwrap())
    }
}
