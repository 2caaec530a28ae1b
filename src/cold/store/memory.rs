//! Jobs in memory, for tests on virtual time: SQLite's writer is a thread, and a paused clock
//! runs away while it works.
//!
//! Promises: what every store promises (it passes the same suite), with what was kept in place of
//! a disk. Each open store is a gateway; many share what is kept, hear each other's news (late, or
//! not at all), and can be cut off. Each operation may take virtual time. Nothing in it is sealed.

mod between;
mod deliveries;
mod model;
mod order;
mod rows;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::between::Exchange;
pub use self::between::{Post, Reach};
pub use self::rows::Row;
use self::rows::{GatewayId, Rows, may_retry};
use super::{
    Beat, By, ClaimedJob, Delivery, DeliveryOutcome, ListQuery, NewsFeed, Outcome, Store,
    StoreError, StoreFuture,
};
use crate::cold::history::{AttemptRecord, KEPT};
use crate::cold::job::{Job, JobId, Owner, Status, StoredAnswer, StoredRequest, UnixMillis};
use crate::cold::recall;
use crate::cold::shares::Shares;

/// What outlives a store; clones share it.
#[derive(Clone)]
pub struct Kept(Arc<Shared>);

struct Shared {
    rows: Mutex<Rows>,
    exchange: Exchange,
    gateways: Mutex<GatewayId>,
    /// The store's clock counts from here.
    began: Instant,
}

impl Default for Kept {
    fn default() -> Self {
        Self(Arc::new(Shared {
            rows: Mutex::default(),
            exchange: Exchange::default(),
            gateways: Mutex::default(),
            began: Instant::now(),
        }))
    }
}

/// A store over what is kept: one gateway.
pub struct MemoryStore {
    kept: Kept,
    gateway: GatewayId,
    queue_limit: u64,
    delay: Box<dyn Fn() -> Duration + Send + Sync>,
    post: Mutex<Option<Post>>,
    /// Cuts it off.
    pub reach: Reach,
}

impl Kept {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, in the order of arrival.
    pub fn everything(&self) -> Vec<Row> {
        self.rows().all.values().cloned().collect()
    }
}

impl MemoryStore {
    /// A store over what was kept; it takes no time.
    pub fn open(kept: &Kept, queue_limit: u64) -> Self {
        let mut gateways = kept
            .0
            .gateways
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *gateways += 1;
        Self {
            kept: kept.clone(),
            gateway: *gateways,
            queue_limit,
            delay: Box::new(|| Duration::ZERO),
            post: Mutex::default(),
            reach: Reach::default(),
        }
    }

    /// The same, where an operation takes so long, half of it after it was done.
    #[must_use]
    pub fn taking(self, delay: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            delay: Box::new(delay),
            ..self
        }
    }

    /// The same, which hears what others write.
    #[must_use]
    pub fn hearing(self, post: Post) -> Self {
        Self {
            post: Mutex::new(Some(post)),
            ..self
        }
    }

    fn run<T, F>(&self, work: F) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Rows) -> Result<T, StoreError> + Send + 'static,
    {
        let half = (self.delay)() / 2;
        Box::pin(async move {
            self.reach.check().await?;
            if !half.is_zero() {
                tokio::time::sleep(half).await;
            }
            let (done, news) = {
                let mut rows = self.kept.rows();
                (work(&mut rows), std::mem::take(&mut rows.news))
            };
            self.kept.0.exchange.tell(self.gateway, &news);
            if !half.is_zero() {
                tokio::time::sleep(half).await;
            }
            // What was done stays done, but nobody hears of it.
            self.reach.check().await?;
            done
        })
    }
}

impl Store for MemoryStore {
    fn insert(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()> {
        let (gateway, limit) = (self.gateway, self.queue_limit);
        self.run(move |rows| {
            if rows.unfinished.len() as u64 >= limit {
                return Err(StoreError::QueueFull { limit });
            }
            rows.insert(gateway, job, request);
            Ok(())
        })
    }

    fn claim(
        &self,
        route: &str,
        limit: usize,
        now: UnixMillis,
    ) -> StoreFuture<'_, Vec<ClaimedJob>> {
        let (gateway, route) = (self.gateway, route.to_owned());
        self.run(move |rows| Ok(rows.claim(gateway, &route, limit, now)))
    }

    fn due(&self, now: UnixMillis) -> StoreFuture<'_, Vec<String>> {
        self.run(move |rows| Ok(rows.due(now)))
    }

    fn share_out(&self, shares: Shares) {
        self.kept.rows().shares = shares;
    }

    fn release(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.run(move |rows| {
            rows.release(&id, fence, at, true);
            Ok(())
        })
    }

    fn postpone(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.run(move |rows| {
            rows.release(&id, fence, at, false);
            Ok(())
        })
    }

    fn strays(&self, held: Vec<(JobId, u64)>, now: UnixMillis) -> StoreFuture<'_, u64> {
        let gateway = self.gateway;
        self.run(move |rows| Ok(rows.strays(gateway, &held, now)))
    }

    fn keep(&self, kept: recall::Kept) -> StoreFuture<'_, ()> {
        self.run(move |rows| {
            let before = rows.keys.get(&kept.key.name);
            if before.is_none_or(|before| before.key.print == kept.key.print) {
                rows.keys.insert(kept.key.name, kept);
            }
            Ok(())
        })
    }

    fn forget(&self, name: [u8; 32], before: UnixMillis) -> StoreFuture<'_, ()> {
        self.run(move |rows| {
            rows.keys
                .retain(|key, kept| *key != name || kept.at >= before);
            Ok(())
        })
    }

    fn kept(&self, name: [u8; 32]) -> StoreFuture<'_, Option<recall::Kept>> {
        self.run(move |rows| Ok(rows.keys.get(&name).cloned()))
    }

    fn jobs_in(&self, owner: Owner, scope: &str, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        let scope = scope.to_owned();
        self.run(move |rows| {
            let ours = |job: &&Job| {
                job.owner == owner
                    && job.scope.as_deref() == Some(&*scope)
                    && !job.status.is_final()
            };
            let all = rows.all.values().rev().map(|row| &row.job);
            Ok(all.filter(ours).take(limit).cloned().collect())
        })
    }

    fn finish(
        &self,
        id: &JobId,
        by: By,
        outcome: Outcome,
        now: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        self.run(move |rows| Ok(rows.finish(&id, by, outcome, now)))
    }

    fn get(&self, id: &JobId) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        self.run(move |rows| Ok(rows.row(&id).map(|(_, row)| row.job.clone())))
    }

    fn answer(&self, id: &JobId) -> StoreFuture<'_, Option<StoredAnswer>> {
        let id = id.clone();
        self.run(move |rows| Ok(rows.row(&id).and_then(|(_, row)| row.answer.clone())))
    }

    fn answer_size(&self, id: &JobId) -> StoreFuture<'_, Option<u64>> {
        let id = id.clone();
        self.run(move |rows| {
            let answer = rows.row(&id).and_then(|(_, row)| row.answer.as_ref());
            Ok(answer.map(|answer| answer.body.len() as u64))
        })
    }

    fn list(&self, query: ListQuery) -> StoreFuture<'_, Vec<Job>> {
        self.run(move |rows| Ok(rows.list(&query)))
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(String, Status, u64)>> {
        self.run(|rows| {
            let mut counts: BTreeMap<(String, &str), (Status, u64)> = BTreeMap::new();
            for row in rows.all.values() {
                let key = (row.job.route.clone(), row.job.status.as_str());
                counts.entry(key).or_insert((row.job.status, 0)).1 += 1;
            }
            let one = |((route, _), (status, count))| (route, status, count);
            Ok(counts.into_iter().map(one).collect())
        })
    }

    fn oldest(&self, now: UnixMillis) -> StoreFuture<'_, Vec<(String, UnixMillis)>> {
        self.run(move |rows| Ok(rows.oldest(now)))
    }

    fn claim_deliveries(
        &self,
        limit: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> StoreFuture<'_, Vec<Delivery>> {
        let gateway = self.gateway;
        self.run(move |rows| Ok(rows.claim_deliveries(gateway, limit, now, until)))
    }

    fn delivered(&self, webhook_id: &str, outcome: DeliveryOutcome) -> StoreFuture<'_, ()> {
        let name = webhook_id.to_owned();
        self.run(move |rows| {
            rows.delivered(&name, outcome);
            Ok(())
        })
    }

    fn dead_deliveries(&self, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        self.run(move |rows| Ok(rows.dead(limit.min(1_000))))
    }

    fn count_dead(&self) -> StoreFuture<'_, u64> {
        self.run(|rows| Ok(rows.dead(usize::MAX).len() as u64))
    }

    fn replay_delivery(&self, id: &JobId, now: UnixMillis) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        self.run(move |rows| Ok(rows.replay(&id, now)))
    }

    fn note(&self, id: &JobId, records: Vec<AttemptRecord>) -> StoreFuture<'_, ()> {
        let id = id.clone();
        self.run(move |rows| {
            if let Some((_, row)) = rows.row(&id) {
                row.history.extend(records);
                let over = row.history.len().saturating_sub(KEPT as usize);
                row.history.drain(..over);
            }
            Ok(())
        })
    }

    fn history(&self, id: &JobId) -> StoreFuture<'_, Vec<AttemptRecord>> {
        let id = id.clone();
        self.run(move |rows| {
            let found = rows.row(&id).map(|(_, row)| row.history.clone());
            Ok(found.unwrap_or_default())
        })
    }

    fn retry(
        &self,
        id: &JobId,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        let (id, limit) = (id.clone(), self.queue_limit);
        self.run(move |rows| {
            let full = rows.unfinished.len() as u64 >= limit;
            if full && rows.row(&id).is_some_and(|(_, row)| may_retry(&row.job)) {
                return Err(StoreError::QueueFull { limit });
            }
            Ok(rows.retry(&id, now, expires_at))
        })
    }

    fn beat(&self, lease: Duration, now: UnixMillis) -> StoreFuture<'_, Beat> {
        let (gateway, began) = (self.gateway, self.kept.0.began);
        self.run(move |rows| Ok(rows.beat(gateway, (lease, began.elapsed()), now)))
    }

    fn leave(&self, now: UnixMillis) -> StoreFuture<'_, u64> {
        let gateway = self.gateway;
        self.run(move |rows| Ok(rows.leave(gateway, now)))
    }

    fn news(&self) -> Option<NewsFeed> {
        let post = self
            .post
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        Some(self.kept.0.exchange.join(self.gateway, &post, &self.reach))
    }

    fn overdue(&self, limit: usize, now: UnixMillis) -> StoreFuture<'_, Vec<JobId>> {
        self.run(move |rows| {
            let due = rows.unfinished.iter().take_while(|(at, _)| *at <= now);
            let id = |(_, at): &(UnixMillis, u64)| Some(rows.all.get(at)?.job.id.clone());
            Ok(due.filter_map(id).take(limit).collect())
        })
    }

    fn sweep(&self, limit: usize, before: UnixMillis) -> StoreFuture<'_, u64> {
        self.run(move |rows| Ok(rows.sweep(limit, before)))
    }

    fn ready(&self) -> StoreFuture<'_, ()> {
        self.run(|_| Ok(()))
    }
}
