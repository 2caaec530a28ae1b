//! Jobs in PostgreSQL, for as many gateways as one likes.
//!
//! Promises: what resolved is committed; jobs are claimed with `FOR UPDATE SKIP LOCKED` under a
//! lease and a fence; what one gateway writes wakes the others within milliseconds; a connection
//! that was lost is made anew. All SQL is plain and stands in the schema `shunt`; statements are
//! not prepared by name, so that a pooler may stand between. Keeps what it is given:
//! `Sealed` around it seals. Tells no password.

mod claims;
#[cfg(test)]
pub(super) mod cluster;
mod doubts;
mod ear;
mod lane;
mod lease;
mod link;
mod migrate;
mod news;
mod notes;
mod order;
mod queue;
mod reads;
mod room;
mod rows;
mod store;
mod tally;
#[cfg(test)]
pub(super) mod tests;
mod tls;
mod writes;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use self::lease::Pulse;
use self::link::{Fault, Ground, Link, Session, backoff};
use self::news::Teller;
use self::queue::{Desk, Queue, Reply, Write};
use self::room::Room;
use self::tally::Tally;
use super::{News, NewsFeed, StoreError};
use crate::cold::history::this_gateway;
use crate::cold::job::UnixMillis;
use crate::cold::shares::Turns;
use crate::config::{Postgres, PostgresAddress};
use crate::tasks::Tasks;

/// A body above this has a connection of its own, bytes.
const LARGE: usize = 256 << 10;

/// Most bytes of a batch of more than one.
const BATCH_BYTES: usize = 4 << 20;

/// Jobs in one list at most.
const LIST: usize = 1_000;

/// A server that does not answer is waited for so long at the start.
const START: Duration = Duration::from_secs(10);

/// A store in a database.
pub struct PostgresStore {
    gateway: i64,
    ground: Arc<Ground>,
    queue: Queue,
    turns: Turns,
    desk: Arc<Desk>,
    readers: Vec<Link>,
    turn: AtomicUsize,
    /// Reads what looks at many rows: no single job waits for it.
    lister: Arc<Link>,
    tally: Tally,
    /// Claims and sweeps.
    taker: Link,
    /// How far a sweep has come.
    swept: tokio::sync::Mutex<claims::Passed>,
    /// Heartbeats and notifications: they wait behind nothing long.
    pulse: Arc<Link>,
    /// Whether there was a heartbeat.
    begun: AtomicBool,
    feed: Mutex<Option<(mpsc::Sender<News>, NewsFeed)>>,
    tasks: Tasks,
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.tasks.cut();
    }
}

/// Connects, while the server starts or is away for a moment.
async fn first(ground: &Arc<Ground>) -> Result<Arc<Session>, StoreError> {
    let (began, mut failures) = (Instant::now(), 0);
    loop {
        match ground.connect(START, None).await {
            Err(Fault::Unsent(_)) if began.elapsed() < START => {
                sleep(backoff(failures)).await;
                failures += 1;
            }
            done => return Ok(done?),
        }
    }
}

impl PostgresStore {
    /// Opens the database, and brings its schema to this gateway's version. Connections live on
    /// this runtime, as tasks of this owner, and end with the store.
    ///
    /// # Errors
    /// A sentence: it cannot be reached or written, or its schema is too new.
    pub async fn open(
        address: &PostgresAddress,
        settings: &Postgres,
        queue_limit: u64,
        tasks: Tasks,
    ) -> Result<Self, StoreError> {
        let password = settings.read_password().map_err(StoreError::Unavailable)?;
        let limits = (
            settings.connect_timeout.get(),
            settings.statement_timeout.get(),
        );
        let ground = Ground::new(address, password.as_ref(), limits, tasks.clone())?;
        let ground = Arc::new(ground);
        let session = first(&ground).await?;
        migrate::migrate(&session, &migrate::STEPS).await?;
        let room = Arc::new(Room::new(queue_limit, reads::unfinished(&session).await?));
        drop(session);
        let gateway = rand::random();
        let pulse = Arc::new(Link::short(&ground));
        let (teller, telling) = Teller::new(gateway, pulse.clone());
        ground.spawn(telling);
        ground.spawn(room.clone().keep_right(Arc::new(Link::long(&ground))));
        let desk = Arc::new(Desk {
            gateway,
            room,
            doubts: Arc::default(),
            news: teller,
            batch: settings.batch,
            queue: settings.queue,
            patience: settings.patience.get(),
        });
        let readers = std::iter::repeat_with(|| Link::long(&ground));
        Ok(Self {
            gateway,
            queue: Queue::start(&ground, &desk, settings.writers),
            desk,
            readers: readers.take(settings.readers.max(1)).collect(),
            turns: Turns::default(),
            turn: AtomicUsize::new(0),
            lister: Arc::new(Link::long(&ground)),
            tally: Tally::default(),
            taker: Link::long(&ground),
            swept: tokio::sync::Mutex::new(claims::START),
            pulse,
            begun: AtomicBool::new(false),
            feed: Mutex::new(Some(mpsc::channel(ear::FEED))),
            ground,
            tasks,
        })
    }

    fn reader(&self) -> &Link {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.readers[turn % self.readers.len()]
    }

    /// Puts a write into the queue and waits for its answer.
    async fn write<T>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.put(write(reply))?;
        let closed = |_| StoreError::Unavailable("the store is closed".into());
        answer.await.map_err(closed)?
    }

    fn tell(&self, news: News) {
        self.desk.news.tell(news);
    }

    /// Tells of what a heartbeat queued again.
    fn tells(&self, pulse: &Pulse) {
        for route in &pulse.routes {
            self.tell(News::Due(route.clone()));
        }
        if pulse.deliveries {
            self.tell(News::Callback);
        }
    }

    async fn pulses(&self, lease: Duration, now: UnixMillis) -> Result<Pulse, Fault> {
        let session = self.pulse.session().await?;
        let millis = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let by = (self.gateway, this_gateway());
        let pulse = lease::beat(&session, by, millis, now).await?;
        // What cannot be undone now is undone later; the lease must not end for it.
        let _ = self.desk.doubts.resolve(&session, self.gateway, now).await;
        Ok(pulse)
    }
}
