//! Large bodies in a file of their own beside the store, so that no 202 waits for them.
//!
//! Promises: a body that `put` has named is on disk, whole; several that are written at once take
//! turns, a chunk each; what no row names is swept, but not while it is being written or named.
//! A crash leaves bodies that no row names, never a row that names a part of one.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use rusqlite::{Connection, OpenFlags, params};

use super::told;
use super::worker::{Desk, Worker};
use super::writes::{all, execute};
use crate::cold::store::StoreError;

/// A longer body stands apart. A shorter one is written with its row: a millisecond.
const LARGE: usize = 256 << 10;

/// What is written, read or deleted in one step.
const CHUNK: usize = 256 << 10;

/// Chunks deleted in one step.
const DELETED: i64 = 8;

/// Names looked at in one step of a sweep.
const NAMES: i64 = 500;

const SCHEMA: &str = concat!("begin;", include_str!("schema_bodies_file.sql"), "commit;");

/// Whether a body stands apart.
pub fn is_large(body: &Bytes) -> bool {
    body.len() > LARGE
}

fn missing() -> StoreError {
    StoreError::Unreadable("its body is not whole in the store's file of bodies".into())
}

/// Names of bodies that no row may name yet.
type Writing = Arc<Mutex<HashSet<i64>>>;

/// The file.
pub struct Bodies {
    writer: Worker,
    reader: Worker,
    writing: Writing,
}

/// A body on disk. As long as this is held it is not swept: it goes with the row that names it
/// until that is written.
pub struct Named {
    name: i64,
    writing: Writing,
}

impl Named {
    /// The name.
    pub fn name(&self) -> i64 {
        self.name
    }
}

fn locked(writing: &Writing) -> MutexGuard<'_, HashSet<i64>> {
    writing.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Named {
    fn drop(&mut self) {
        locked(&self.writing).remove(&self.name);
    }
}

/// Makes a file that its owner alone can read, if there is none: prompts stand in it. SQLite gives what it
/// puts beside it the same mode.
pub(super) fn private(path: &Path) -> Result<(), StoreError> {
    let mut open = File::options();
    let open = open.write(true).create(true).truncate(false).mode(0o600);
    open.open(path).map(drop).map_err(|error| told(path, error))
}

impl Bodies {
    /// Opens the file, or makes it; the store's lock covers it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: rusqlite::Error| told(path, error);
        private(path)?;
        let connection = Connection::open(path).map_err(failed)?;
        prepare(path, &connection)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(path, flags).map_err(failed)?;
        let start = |name, desk, grouped| {
            Worker::start(name, desk, grouped).map_err(|error| told(path, error))
        };
        Ok(Self {
            writer: start("bodies-writer", Desk::new(connection), true)?,
            reader: start("bodies-reader", Desk::new(reader), false)?,
            writing: Writing::default(),
        })
    }

    /// Takes a large body away from its row and writes it; then the row is to name it.
    pub async fn take(&self, body: &mut Bytes) -> Result<Option<Named>, StoreError> {
        if !is_large(body) {
            return Ok(None);
        }
        self.put(&std::mem::take(body)).await.map(Some)
    }

    /// Gives a body back to the row that names it.
    pub async fn give_back(&self, body: &mut Bytes, name: Option<i64>) -> Result<(), StoreError> {
        if let Some(name) = name {
            *body = self.get(name).await?;
        }
        Ok(())
    }

    /// Writes a body, chunk by chunk; it is durable when this resolves.
    async fn put(&self, body: &Bytes) -> Result<Named, StoreError> {
        // Never a name that another body had: a file may have been lost or put back.
        let name = rand::random::<i64>() & i64::MAX;
        locked(&self.writing).insert(name);
        let named = Named {
            name,
            writing: self.writing.clone(),
        };
        let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
        for (number, from) in (0i64..).zip((0..body.len()).step_by(CHUNK)) {
            let chunk = body.slice(from..body.len().min(from + CHUNK));
            let write = move |desk: &Desk| {
                if number == 0 {
                    let sql = "insert into bodies (name, size) values (?1, ?2)";
                    execute(desk, sql, params![name, size])?;
                }
                let sql = "insert into chunks (body, number, bytes) values (?1, ?2, ?3)";
                execute(desk, sql, params![name, number, &chunk[..]]).map(|_| ())
            };
            self.writer.run(write).await?;
        }
        Ok(named)
    }

    /// A body's size in bytes.
    pub async fn size(&self, name: i64) -> Result<u64, StoreError> {
        let read = move |desk: &Desk| {
            let sql = "select size from bodies where name = ?1";
            all(desk, sql, [name], |row| row.get::<_, i64>(0))
        };
        let size = self.reader.run(read).await?.pop();
        size.map(i64::unsigned_abs).ok_or_else(missing)
    }

    /// Reads a body back, chunk by chunk.
    ///
    /// # Errors
    /// It is not there, or not whole: the file was lost or changed.
    async fn get(&self, name: i64) -> Result<Bytes, StoreError> {
        let size = usize::try_from(self.size(name).await?).unwrap_or(usize::MAX);
        let mut body = BytesMut::with_capacity(size.min(1 << 30));
        for number in 0i64.. {
            if body.len() >= size {
                break;
            }
            let read = move |desk: &Desk| {
                let sql = "select bytes from chunks where body = ?1 and number = ?2";
                all(desk, sql, [name, number], |row| row.get::<_, Vec<u8>>(0))
            };
            let chunk = self.reader.run(read).await?.pop();
            body.extend_from_slice(
                &chunk
                    .filter(|chunk| !chunk.is_empty())
                    .ok_or_else(missing)?,
            );
        }
        if body.len() == size {
            Ok(body.freeze())
        } else {
            Err(missing())
        }
    }

    /// Names above `after` that nobody writes at this moment, in order, and where to look next;
    /// `None`: there are no more.
    pub async fn names(&self, after: i64) -> Result<Option<(Vec<i64>, i64)>, StoreError> {
        let read = move |desk: &Desk| {
            let sql = "select name from bodies where name > ?1 order by name limit ?2";
            all(desk, sql, params![after, NAMES], |row| row.get(0))
        };
        let mut names: Vec<i64> = self.reader.run(read).await?;
        let last = names.last().copied();
        let writing = locked(&self.writing);
        names.retain(|name| !writing.contains(name));
        Ok(last.map(|last| (names, last)))
    }

    /// Deletes a body, a few chunks a step.
    pub async fn delete(&self, name: i64) -> Result<(), StoreError> {
        let some = move |desk: &Desk| {
            let sql = "delete from chunks where seq in \
                       (select seq from chunks where body = ?1 limit ?2)";
            execute(desk, sql, params![name, DELETED])
        };
        while self.writer.run(some).await? > 0 {}
        let last = move |desk: &Desk| {
            execute(desk, "delete from bodies where name = ?1", [name]).map(|_| ())
        };
        self.writer.run(last).await
    }
}

fn prepare(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| told(path, error);
    let set = "pragma page_size = 16384; pragma journal_mode = wal; pragma synchronous = full; \
               pragma busy_timeout = 5000; pragma wal_autocheckpoint = 256;";
    connection.execute_batch(set).map_err(failed)?;
    let version = connection.query_row("pragma user_version", [], |row| row.get::<_, i64>(0));
    match version.map_err(failed)? {
        0 => connection.execute_batch(SCHEMA).map_err(failed),
        1 => Ok(()),
        _ => Err(told(
            path,
            "a newer gateway wrote this store; run that version, or name another cold.store",
        )),
    }
}
