//! What every store does, in PostgreSQL.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::ear::Ear;
use super::link::Fault;
use super::notes::{Note, Told};
use super::queue::Write;
use super::writes::{Ending, NewJob, Rest};
use super::{PostgresStore, claims, lease, order, reads};
use crate::cold::history::AttemptRecord;
use crate::cold::job::{Job, JobId, Owner, Status, StoredAnswer, StoredRequest, UnixMillis};
use crate::cold::recall::Kept;
use crate::cold::shares::Shares;
use crate::cold::store::{
    Beat, By, ClaimedJob, Delivery, DeliveryOutcome, ListQuery, News, NewsFeed, Outcome, Store,
    StoreError, StoreFuture,
};

/// Asks over a reader; once more where its connection was lost in the midst.
macro_rules! read {
    ($store:ident, $session:ident, $ask:expr) => {
        read!($store.reader(), $session, $ask)
    };
    ($link:expr, $session:ident, $ask:expr) => {
        Box::pin(async move {
            let link = $link;
            let $session = link.session().await?;
            let done = $ask.await;
            if let Err(Fault::Doubtful(_)) = &done {
                let $session = link.session().await?;
                return Ok($ask.await?);
            }
            Ok(done?)
        })
    };
}

impl PostgresStore {
    async fn keep_new(&self, one: NewJob) -> Result<(), StoreError> {
        self.desk.room.enter()?;
        let (reply, answer) = oneshot::channel();
        if let Err(why) = self.queue.put(Write::Insert(Box::new(one), reply)) {
            self.desk.room.leave();
            self.desk.room.settled();
            return Err(why);
        }
        let closed = |_| StoreError::Unavailable("the store is closed".into());
        answer.await.map_err(closed)?
    }
}

impl Store for PostgresStore {
    fn insert(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()> {
        Box::pin(self.keep_new(NewJob::new(job, request)))
    }

    fn insert_keyed(&self, job: Job, request: StoredRequest) -> StoreFuture<'_, ()> {
        let mut one = NewJob::new(job, request);
        one.keyed = true;
        Box::pin(self.keep_new(one))
    }

    fn claim(
        &self,
        route: &str,
        limit: usize,
        now: UnixMillis,
    ) -> StoreFuture<'_, Vec<ClaimedJob>> {
        let route = route.to_owned();
        Box::pin(async move {
            let session = self.taker.session().await?;
            let doubts = &self.desk.doubts;
            // What was taken for nobody is taken here, without waiting for a heartbeat.
            let _ = doubts.resolve(&session, self.gateway, now).await;
            let claim = doubts.claim();
            let by = (self.gateway, claim.number);
            let taken = order::claim(&session, &self.turns, by, (&route, limit), now).await;
            if matches!(taken, Ok(_) | Err(Fault::Again(_) | Fault::Unsent(_))) {
                claim.known();
            }
            let taken = taken?;
            for one in &taken {
                self.tell(News::Changed(one.job.id.clone()));
            }
            Ok(taken)
        })
    }

    fn share_out(&self, shares: Shares) {
        self.turns.share_out(shares);
    }

    fn release(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        let rest = Rest {
            id: id.clone(),
            fence,
            at,
            uncounted: false,
        };
        Box::pin(self.write(|reply| Write::Rest(rest, reply)))
    }

    fn postpone(&self, id: &JobId, fence: u64, at: UnixMillis) -> StoreFuture<'_, ()> {
        let rest = Rest {
            id: id.clone(),
            fence,
            at,
            uncounted: true,
        };
        Box::pin(self.write(|reply| Write::Rest(rest, reply)))
    }

    fn finish(
        &self,
        id: &JobId,
        by: By,
        outcome: Outcome,
        now: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        let ending = Box::new(Ending {
            id: id.clone(),
            by,
            outcome,
            at: now,
        });
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.desk.room.begin();
            if let Err(why) = self.queue.put(Write::Finish(ending, reply)) {
                self.desk.room.settled();
                return Err(why);
            }
            let closed = |_| StoreError::Unavailable("the store is closed".into());
            answer.await.map_err(closed)?
        })
    }

    fn get(&self, id: &JobId) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        read!(self, session, reads::get(&session, &id))
    }

    fn answer(&self, id: &JobId) -> StoreFuture<'_, Option<StoredAnswer>> {
        let id = id.clone();
        read!(self, session, reads::answer(&session, &id))
    }

    fn answer_size(&self, id: &JobId) -> StoreFuture<'_, Option<u64>> {
        let id = id.clone();
        read!(self, session, reads::answer_size(&session, &id))
    }

    fn list(&self, query: ListQuery) -> StoreFuture<'_, Vec<Job>> {
        read!(&self.lister, session, reads::list(&session, &query))
    }

    fn jobs_in(&self, owner: Owner, scope: &str, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        let scope = scope.to_owned();
        read!(
            self,
            session,
            reads::jobs_in(&session, owner, &scope, limit)
        )
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(String, Status, u64)>> {
        let lister = self.lister.clone();
        let count = move || -> StoreFuture<'static, _> {
            read!(&*lister, session, reads::counts(&session))
        };
        Box::pin(self.tally.counts(count))
    }

    fn due(&self, now: UnixMillis) -> StoreFuture<'_, Vec<String>> {
        read!(self, session, order::due(&session, now))
    }

    fn oldest(&self, now: UnixMillis) -> StoreFuture<'_, Vec<(String, UnixMillis)>> {
        read!(&self.lister, session, reads::oldest(&session, now))
    }

    fn claim_deliveries(
        &self,
        limit: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> StoreFuture<'_, Vec<Delivery>> {
        Box::pin(async move {
            let session = self.taker.session().await?;
            let moments = (now, until);
            Ok(claims::claim_deliveries(&session, self.gateway, limit, moments).await?)
        })
    }

    fn delivered(&self, webhook_id: &str, outcome: DeliveryOutcome) -> StoreFuture<'_, ()> {
        let told = Told {
            name: webhook_id.to_owned(),
            outcome,
        };
        Box::pin(self.write(|reply| Write::Told(told, reply)))
    }

    fn dead_deliveries(&self, limit: usize) -> StoreFuture<'_, Vec<Job>> {
        read!(&self.lister, session, reads::dead(&session, limit))
    }

    fn count_dead(&self) -> StoreFuture<'_, u64> {
        read!(&self.lister, session, reads::count_dead(&session))
    }

    fn replay_delivery(&self, id: &JobId, now: UnixMillis) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        Box::pin(async move {
            let session = self.taker.session().await?;
            let job = claims::replay(&session, &id, now).await?;
            if job.is_some() {
                self.tell(News::Callback);
            }
            Ok(job)
        })
    }

    fn note(&self, id: &JobId, records: Vec<AttemptRecord>) -> StoreFuture<'_, ()> {
        let note = Note {
            id: id.clone(),
            records,
        };
        Box::pin(self.write(|reply| Write::Note(note, reply)))
    }

    fn history(&self, id: &JobId) -> StoreFuture<'_, Vec<AttemptRecord>> {
        let id = id.clone();
        read!(self, session, reads::history(&session, &id))
    }

    fn retry(
        &self,
        id: &JobId,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> StoreFuture<'_, Option<Job>> {
        let id = id.clone();
        Box::pin(async move {
            let session = self.taker.session().await?;
            let room = &self.desk.room;
            if let Err(full) = room.enter() {
                let may = claims::may_retry(&session, &id).await?;
                return if may { Err(full) } else { Ok(None) };
            }
            let again = claims::retry(&session, &id, (now, expires_at)).await;
            if !matches!(again, Ok(Some(_))) {
                room.leave();
            }
            room.settled();
            let again = again?;
            if let Some(job) = &again {
                self.tell(News::Due(job.route.clone()));
                self.tell(News::Changed(id));
            }
            Ok(again)
        })
    }

    fn strays(&self, held: Vec<(JobId, u64)>, now: UnixMillis) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let session = self.taker.session().await?;
            let routes = lease::strays(&session, self.gateway, &held, now).await?;
            for route in &routes {
                self.tell(News::Due(route.clone()));
            }
            Ok(routes.len() as u64)
        })
    }

    fn beat(&self, lease: Duration, now: UnixMillis) -> StoreFuture<'_, Beat> {
        Box::pin(async move {
            let mut pulse = self.pulses(lease, now).await;
            if let Err(Fault::Doubtful(_) | Fault::Again(_)) = pulse {
                pulse = self.pulses(lease, now).await;
            }
            let pulse = pulse?;
            self.tells(&pulse);
            Ok(Beat {
                lost: self.begun.swap(true, Ordering::AcqRel) && !pulse.alive,
                rescued: pulse.rescued,
            })
        })
    }

    fn leave(&self, now: UnixMillis) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let session = self.pulse.session().await?;
            let mut pulse = lease::leave(&session, self.gateway, now).await;
            if let Err(Fault::Doubtful(_) | Fault::Again(_)) = pulse {
                let session = self.pulse.session().await?;
                pulse = lease::leave(&session, self.gateway, now).await;
            }
            let pulse = pulse?;
            self.begun.store(false, Ordering::Release);
            self.tells(&pulse);
            Ok(pulse.rescued)
        })
    }

    fn news(&self) -> Option<NewsFeed> {
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, news) = feed.take()?;
        let ear = Ear {
            own: self.gateway,
            ground: self.ground.clone(),
            teller: self.desk.news.clone(),
            feed: sender,
            full: false,
        };
        self.ground.spawn(ear.run());
        Some(news)
    }

    fn overdue(&self, limit: usize, now: UnixMillis) -> StoreFuture<'_, Vec<JobId>> {
        read!(self, session, reads::overdue(&session, limit, now))
    }

    fn keep(&self, kept: Kept) -> StoreFuture<'_, ()> {
        Box::pin(self.write(|reply| Write::Keep(Box::new(kept), reply)))
    }

    fn forget(&self, name: [u8; 32], before: UnixMillis) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let session = self.taker.session().await?;
            Ok(claims::forget(&session, name, before).await?)
        })
    }

    fn kept(&self, name: [u8; 32]) -> StoreFuture<'_, Option<Kept>> {
        read!(self, session, reads::kept(&session, name))
    }

    fn sweep(&self, limit: usize, before: UnixMillis) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let mut passed = self.swept.lock().await;
            loop {
                let began = Instant::now();
                let session = self.taker.session().await?;
                let swept = claims::sweep(&session, limit, before, &mut passed).await?;
                if swept > 0 || *passed == claims::START {
                    return Ok(swept);
                }
                // All of the step went by jobs that are kept: claims go before the next.
                sleep(began.elapsed()).await;
            }
        })
    }

    fn ready(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let session = self.pulse.session().await?;
            let mut written = claims::probe(&session).await;
            if let Err(Fault::Doubtful(_)) = written {
                let session = self.pulse.session().await?;
                written = claims::probe(&session).await;
            }
            Ok(written?)
        })
    }
}
