//! A thread with a connection of its own that does what it is sent.
//!
//! Promises: the writer takes everything that waits into one transaction (group commit), each
//! command in a savepoint of its own, and answers after the commit: what was refused is not
//! written; dropping the handle ends the thread once what was accepted is done.

use std::cell::Cell;
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::cold::shares::Turns;
use crate::cold::store::StoreError;

/// Commands in one transaction.
const BATCH: usize = 256;

/// Commands that may wait.
const QUEUE: usize = 4_096;

/// What a command works on.
pub struct Desk {
    /// The connection.
    pub connection: Connection,
    /// Unfinished jobs; kept by the writer, so that the queue limit costs no count.
    pub unfinished: Cell<u64>,
    /// Whose turn it was last.
    pub turns: Arc<Turns>,
    /// The last old job that a sweep has passed: its end and its place.
    pub swept: Cell<(i64, i64)>,
}

type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Is given the desk, or why nothing can be done at it.
type Command = Box<dyn FnOnce(Result<&Desk, StoreError>) -> Answer + Send>;

/// A thread that owns a connection.
pub struct Worker {
    queue: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// An SQLite error as callers see it.
pub fn unavailable(error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

impl Worker {
    /// Starts a thread. `grouped`: commands write, and share commits.
    pub fn start(name: &str, desk: Desk, grouped: bool) -> std::io::Result<Self> {
        let (queue, commands) = mpsc::channel(QUEUE);
        let run = move || {
            if grouped {
                write(&desk, commands);
            } else {
                read(&desk, commands);
            }
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Does something on the thread; for a writer it is durable when this resolves.
    pub async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Desk) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, told) = oneshot::channel();
        let command: Command = Box::new(move |desk| {
            let done = desk.and_then(|desk| savepoint(desk, work));
            Box::new(move |committed: Result<(), StoreError>| {
                // Whoever asked may have left.
                let _ = reply.send(done.and_then(|value| committed.map(|()| value)));
            })
        });
        let gone = || StoreError::Unavailable("the store is closed".into());
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(command).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

fn savepoint<T>(
    desk: &Desk,
    work: impl FnOnce(&Desk) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let run = |sql: &str| {
        let done = desk
            .connection
            .prepare_cached(sql)
            .and_then(|mut one| one.execute([]));
        done.map_err(|error| unavailable(&error))
    };
    run("savepoint one")?;
    match work(desk) {
        Ok(value) => run("release one").map(|_| value),
        Err(why) => {
            // A full disk may have ended all of it already.
            if !desk.connection.is_autocommit() {
                run("rollback to one")?;
                run("release one")?;
            }
            Err(why)
        }
    }
}

fn read(desk: &Desk, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.blocking_recv() {
        command(Ok(desk))(Ok(()));
    }
}

fn write(desk: &Desk, mut commands: mpsc::Receiver<Command>) {
    let mut batch = Vec::with_capacity(BATCH);
    while commands.blocking_recv_many(&mut batch, BATCH) > 0 {
        let began = desk.connection.execute_batch("begin immediate");
        let mut open = began.map_err(|error| unavailable(&error));
        let one = |command: Command| {
            let answer = command(open.clone().map(|()| desk));
            // A full disk can end the whole transaction: what came before is lost with it, and
            // what comes after must not be written by itself.
            if open.is_ok() && desk.connection.is_autocommit() {
                open = Err(StoreError::Unavailable(
                    "the disk is full or failing".into(),
                ));
            }
            answer
        };
        let answers: Vec<Answer> = batch.drain(..).map(one).collect();
        let committed = open.and_then(|()| {
            let done = desk.connection.execute_batch("commit");
            done.map_err(|error| unavailable(&error))
        });
        if committed.is_err() {
            let _ = desk.connection.execute_batch("rollback");
            desk.recount();
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

impl Desk {
    /// A desk with nothing counted yet.
    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
            unfinished: Cell::new(0),
            swept: Cell::new(super::sweep::START),
            turns: Arc::default(),
        }
    }

    /// Counts the unfinished jobs anew.
    pub fn recount(&self) {
        let count = self.connection.query_row(
            "select count(*) from jobs where finished_at is null",
            [],
            |row| row.get::<_, i64>(0),
        );
        self.unfinished.set(count.map_or(0, i64::unsigned_abs));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic on the thread was reported there.
            let _ = thread.join();
        }
    }
}
