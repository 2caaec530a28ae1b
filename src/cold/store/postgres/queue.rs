//! Writes that arrive together share a transaction and a round trip.
//!
//! Promises: what waits while a batch is written becomes the next batch; one write that is refused
//! fails no other; large bodies have a connection of their own, so that they hold up nothing; a
//! write that may have been done before its connection was lost is sent again only where that is
//! safe; every write is answered, in bounded time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::doubts::Doubts;
use super::lane::Lane;
use super::link::{Ground, Link};
use super::news::Teller;
use super::notes::{Note, Told};
use super::room::Room;
use super::writes::{Ending, NewJob, Rest};
use crate::cold::job::{Job, StoredAnswer};
use crate::cold::recall::Kept;
use crate::cold::store::StoreError;

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Something to be written, and who waits for it.
pub(super) enum Write {
    Insert(Box<NewJob>, Reply<()>),
    Rest(Rest, Reply<()>),
    Finish(Box<Ending>, Reply<Option<Job>>),
    Note(Note, Reply<()>),
    Keep(Box<Kept>, Reply<()>),
    Told(Told, Reply<()>),
}

/// A write on its way.
pub(super) struct Item {
    pub write: Write,
    pub since: Instant,
    /// It may have been done already.
    pub doubted: bool,
}

impl Item {
    /// A new job whose caller has gone before it was sent.
    pub fn is_left(&self) -> bool {
        match &self.write {
            Write::Insert(_, reply) => !self.doubted && reply.is_closed(),
            _ => false,
        }
    }
}

impl Write {
    /// Bytes that it takes, about.
    pub fn weight(&self) -> usize {
        match self {
            Self::Insert(one, _) => one.weight(),
            Self::Finish(one, _) => length(one.outcome.answer.as_ref()),
            Self::Keep(one, _) => length(one.answer()),
            Self::Rest(..) | Self::Note(..) | Self::Told(..) => 0,
        }
    }

    /// What stands once in a statement: its kind and its key.
    pub fn key(&self) -> Option<(u8, Vec<u8>)> {
        let (kind, key) = match self {
            Self::Insert(one, _) => (0, one.job.id.as_str().as_bytes()),
            Self::Rest(one, _) => (1, one.id.as_str().as_bytes()),
            Self::Finish(one, _) => (2, one.id.as_str().as_bytes()),
            Self::Keep(one, _) => (3, &one.key.name[..]),
            Self::Told(one, _) => (4, one.name.as_bytes()),
            Self::Note(..) => return None,
        };
        Some((kind, key.to_vec()))
    }

    /// Whether it may be done once more.
    pub fn is_safe_twice(&self) -> bool {
        use crate::cold::store::DeliveryOutcome::{Dead, Delivered};
        match self {
            Self::Insert(..) | Self::Rest(..) | Self::Finish(..) | Self::Keep(..) => true,
            Self::Told(one, _) => matches!(one.outcome, Delivered | Dead { .. }),
            Self::Note(..) => false,
        }
    }
}

fn length(answer: Option<&StoredAnswer>) -> usize {
    answer.map_or(0, |answer| answer.body.len())
}

/// Where writes are put.
pub(super) struct Queue {
    light: mpsc::Sender<Item>,
    heavy: mpsc::Sender<Item>,
}

/// What the lanes know of the store.
pub(super) struct Desk {
    pub gateway: i64,
    pub room: Arc<Room>,
    pub doubts: Arc<Doubts>,
    pub news: Teller,
    /// Most writes in a batch, and that wait.
    pub batch: usize,
    pub queue: usize,
    pub patience: Duration,
}

impl Queue {
    /// Starts the lanes: so many for small writes, and one for large.
    pub fn start(ground: &Arc<Ground>, desk: &Arc<Desk>, writers: usize) -> Self {
        let (light, inbox) = mpsc::channel(desk.queue);
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..writers {
            let lane = Lane::new(Link::short(ground), desk, inbox.clone());
            ground.spawn(lane.run());
        }
        let (heavy, inbox) = mpsc::channel(desk.queue.min(64));
        let lane = Lane::new(Link::long(ground), desk, Arc::new(Mutex::new(inbox)));
        ground.spawn(lane.run());
        Self { light, heavy }
    }

    /// Puts a write in; its reply tells what came of it.
    ///
    /// # Errors
    /// Too many wait already.
    pub fn put(&self, write: Write) -> Result<(), StoreError> {
        let large = write.weight() > super::LARGE;
        let queue = if large { &self.heavy } else { &self.light };
        let item = Item {
            write,
            since: Instant::now(),
            doubted: false,
        };
        queue.try_send(item).map_err(|error| {
            let why = match error {
                mpsc::error::TrySendError::Full(_) => "too many writes wait for PostgreSQL",
                mpsc::error::TrySendError::Closed(_) => "the store is closed",
            };
            StoreError::Unavailable(why.into())
        })
    }
}
