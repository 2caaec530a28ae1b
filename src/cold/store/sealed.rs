//! A store that keeps sealed what another store keeps in its place; the same for each.
//!
//! Promises: nothing that can hold credentials reaches the inner store in clear, and with
//! `Seal::All` nothing that a caller or a provider wrote, but for a scope's name; what was kept
//! otherwise before (in clear, or under an older key) is read all the same. What does not open
//! says why, and holds up nothing else.

pub(crate) mod fields;

use std::sync::Arc;
use std::time::Duration;

use self::fields::Codec;
use super::{
    Beat, By, ClaimedJob, Delivery, DeliveryOutcome, ListQuery, NewsFeed, Outcome, Store,
    StoreError, StoreFuture,
};
use crate::cold::history::AttemptRecord;
use crate::cold::job::{Job, JobId, Owner, Status, StoredAnswer, StoredRequest, UnixMillis};
use crate::cold::recall::Kept;
use crate::cold::seal::{Sealer, Unopened};
use crate::cold::shares::Shares;
use crate::config::Seal;

/// A store whose rows are sealed.
pub struct Sealed<S> {
    inner: S,
    codec: Arc<Codec>,
}

/// What is longer is sealed on a thread of its own: about 0.1 ms.
const SHORT: usize = 64 << 10;

impl<S: Store> Sealed<S> {
    /// Seals what a store keeps.
    pub fn new(inner: S, sealer: Sealer, seal: Seal) -> Self {
        let codec = Arc::new(Codec::new(sealer, seal));
        Self { inner, codec }
    }

    /// Does something with `bytes` bytes. What is long is done aside: other tasks of this thread
    /// do not wait for it. The caller waits, so no task outlives it unseen.
    async fn aside<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Codec) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        if bytes <= SHORT {
            return Ok(work(&self.codec));
        }
        let codec = self.codec.clone();
        let done = tokio::task::spawn_blocking(move || work(&codec)).await;
        done.map_err(|_| StoreError::Unavailable("the gateway stops".into()))
    }

    async fn sealed(
        &self,
        job: Job,
        request: StoredRequest,
    ) -> Result<(Job, StoredRequest), StoreError> {
        let bytes = self.codec.sealed_of(&request.body);
        let seal = move |codec: &Codec| {
            let request = codec.request(&job.id, request);
            (codec.job(job), request)
        };
        self.aside(bytes, seal).await
    }

    fn jobs<'a>(&'a self, found: StoreFuture<'a, Vec<Job>>) -> StoreFuture<'a, Vec<Job>> {
        Box::pin(async move {
            let found = found.await?;
            let bytes = found.iter().map(fields::sealed_in).sum();
            let open = |codec: &Codec| found.into_iter().map(|job| codec.shown(job)).collect();
            self.aside(bytes, open).await
        })
    }

    fn job<'a>(&'a self, found: StoreFuture<'a, Option<Job>>) -> StoreFuture<'a, Option<Job>> {
        Box::pin(async move { Ok(found.await?.map(|job| self.codec.shown(job))) })
    }
}

impl<S: Store> Store for Sealed<S> {
    fn insert(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let (job, request) = self.sealed(job, request).await?;
            self.inner.insert(job, request).await
        })
    }

    fn insert_keyed(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let (job, request) = self.sealed(job, request).await?;
            self.inner.insert_keyed(job, request).await
        })
    }

    fn claim(
        &self,
        route: &str,
        limit: usize,
        now: UnixMillis,
    ) -> StoreFuture<'_, Vec<ClaimedJob>> {
        let claimed = self.inner.claim(route, limit, now);
        Box::pin(async move {
            let claimed = claimed.await?;
            let bytes = claimed.iter().map(|one| one.request.body.len()).sum();
            let open = |codec: &Codec| {
                let open = |ClaimedJob { job, request }| {
                    let job = codec.shown(job);
                    match codec.opened_request(&job.id, request) {
                        Ok(request) => ClaimedJob { job, request },
                        Err(why) => ClaimedJob::unreadable(job, &why),
                    }
                };
                claimed.into_iter().map(open).collect()
            };
            self.aside(bytes, open).await
        })
    }

    fn share_out(&self, shares: Shares) {
        self.inner.share_out(shares);
    }

    fn release(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        self.inner.release(id, fence, at)
    }

    fn postpone(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        self.inner.postpone(id, fence, at)
    }

    fn finish(
        &self,
        id: &JobId,
        by: By,
        outcome: Outcome,
        now: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        Box::pin(async move {
            let answer = outcome.answer.as_ref();
            let bytes = answer.map_or(0, |answer| self.codec.sealed_of(&answer.body));
            let name = id.clone();
            let seal = move |codec: &Codec| codec.outcome(&name, outcome);
            let outcome = self.aside(bytes, seal).await?;
            self.job(self.inner.finish(&id, by, outcome, now)).await
        })
    }

    fn get(&self, id: &JobId) -> StoreFuture<'_, Option<Job>> {
        self.job(self.inner.get(id))
    }

    fn answer(&self, id: &JobId) -> StoreFuture<'_, Option<StoredAnswer>> {
        let (answer, id) = (self.inner.answer(id), id.clone());
        Box::pin(async move {
            let Some(answer) = answer.await? else {
                return Ok(None);
            };
            let bytes = answer.body.len();
            let open = move |codec: &Codec| codec.opened_answer(&id, answer);
            Ok(Some(self.aside(bytes, open).await??))
        })
    }

    fn answer_size(&self, id: &JobId) -> StoreFuture<'_, Option<u64>> {
        self.inner.answer_size(id)
    }

    fn list(&self, query: ListQuery) -> StoreFuture<'_, Vec<Job>> {
        self.jobs(self.inner.list(query))
    }

    fn jobs_in(&self, owner: Owner, scope: &str, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        self.jobs(self.inner.jobs_in(owner, scope, limit))
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(String, Status, u64)>> {
        self.inner.counts()
    }

    fn due(&self, now: UnixMillis) -> StoreFuture<'_, Vec<String>> {
        self.inner.due(now)
    }

    fn oldest(&self, now: UnixMillis) -> StoreFuture<'_, Vec<(String, UnixMillis)>> {
        self.inner.oldest(now)
    }

    /// A callback whose address does not open is given up, so that it can be begun anew.
    fn claim_deliveries(
        &self,
        limit: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> StoreFuture<'_, Vec<Delivery>> {
        let claimed = self.inner.claim_deliveries(limit, now, until);
        Box::pin(async move {
            let mut open = Vec::new();
            for mut delivery in claimed.await? {
                let (job, why) = self.codec.opened(delivery.job);
                delivery.job = job;
                let Some(why) = why else {
                    open.push(delivery);
                    continue;
                };
                let error = format!("it was not sent: {why}; then replay it");
                let dead = DeliveryOutcome::Dead { at: now, error };
                self.delivered(&delivery.webhook_id, dead).await?;
            }
            Ok(open)
        })
    }

    fn delivered(&self, webhook_id: &str, outcome: DeliveryOutcome) -> StoreFuture<'_, ()> {
        self.inner
            .delivered(webhook_id, self.codec.delivered(outcome))
    }

    fn dead_deliveries(&self, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        self.jobs(self.inner.dead_deliveries(limit))
    }

    fn count_dead(&self) -> StoreFuture<'_, u64> {
        self.inner.count_dead()
    }

    fn replay_delivery(&self, id: &JobId, now: UnixMillis) -> StoreFuture<'_, Option<Job>> {
        self.job(self.inner.replay_delivery(id, now))
    }

    fn note(&self, id: &JobId, records: Vec<AttemptRecord>) -> StoreFuture<'_, ()> {
        self.inner.note(id, self.codec.records(id, records))
    }

    fn history(&self, id: &JobId) -> StoreFuture<'_, Vec<AttemptRecord>> {
        let (found, id) = (self.inner.history(id), id.clone());
        Box::pin(async move { Ok(self.codec.shown_records(&id, found.await?)) })
    }

    fn retry(
        &self,
        id: &JobId,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        self.job(self.inner.retry(id, now, expires_at))
    }

    fn beat(&self, lease: Duration, now: UnixMillis) -> StoreFuture<'_, Beat> {
        self.inner.beat(lease, now)
    }

    fn leave(&self, now: UnixMillis) -> StoreFuture<'_, u64> {
        self.inner.leave(now)
    }

    fn news(&self) -> Option<NewsFeed> {
        self.inner.news()
    }

    fn overdue(&self, limit: usize, now: UnixMillis) -> StoreFuture<'_, Vec<JobId>> {
        self.inner.overdue(limit, now)
    }

    fn keep(&self, kept: Kept) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let answer = kept.answer();
            let bytes = answer.map_or(0, |answer| self.codec.sealed_of(&answer.body));
            let kept = self.aside(bytes, |codec| codec.kept(kept)).await?;
            self.inner.keep(kept).await
        })
    }

    fn forget(&self, name: [u8; 32], before: UnixMillis) -> StoreFuture<'_, ()> {
        self.inner.forget(name, before)
    }

    fn kept(&self, name: [u8; 32]) -> StoreFuture<'_, Option<Kept>> {
        Box::pin(async move {
            let Some(kept) = self.inner.kept(name).await? else {
                return Ok(None);
            };
            let bytes = kept.answer().map_or(0, |answer| answer.body.len());
            Ok(Some(
                self.aside(bytes, |codec| codec.opened_kept(kept)).await??,
            ))
        })
    }

    fn strays(&self, held: Vec<(JobId, u64)>, now: UnixMillis) -> StoreFuture<'_, u64> {
        self.inner.strays(held, now)
    }

    fn sweep(&self, limit: usize, before: UnixMillis) -> StoreFuture<'_, u64> {
        self.inner.sweep(limit, before)
    }

    fn ready(&self) -> StoreFuture<'_, ()> {
        self.inner.ready()
    }
}

impl From<Unopened> for StoreError {
    fn from(why: Unopened) -> Self {
        Self::Unreadable(why.to_string())
    }
}
