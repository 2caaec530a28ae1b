//! A connection that writes, a batch at a time.
//!
//! Promises: as `queue`. While there is no connection, new jobs are refused after a second; what
//! ends jobs is held and tried again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use super::link::{Fault, Link, Session, backoff};
use super::queue::{Desk, Item, Write};
use super::{BATCH_BYTES, notes, reads, writes};
use crate::cold::job::{Job, JobId, Status, UnixMillis};
use crate::cold::store::{News, StoreError};

/// A new job that cannot be sent is refused after this.
const INSERT_PATIENCE: Duration = Duration::from_secs(1);

/// Tries of a batch that met others.
const TRIES: u32 = 4;

/// A connection and what waits for it.
pub(super) struct Lane {
    link: Link,
    inbox: Arc<Mutex<mpsc::Receiver<Item>>>,
    desk: Arc<Desk>,
    waiting: VecDeque<Item>,
}

/// What a batch's statements gave.
struct Done {
    ended: HashMap<JobId, Job>,
    rested: Vec<(JobId, String, UnixMillis)>,
}

impl Lane {
    /// One that takes from this inbox.
    pub fn new(link: Link, desk: &Arc<Desk>, inbox: Arc<Mutex<mpsc::Receiver<Item>>>) -> Self {
        Self {
            link,
            inbox,
            desk: desk.clone(),
            waiting: VecDeque::new(),
        }
    }

    /// Writes until nothing comes any more.
    pub async fn run(mut self) {
        while !self.waiting.is_empty() || self.arrives().await {
            let batch = self.gather();
            Box::pin(self.write(batch)).await;
        }
    }

    /// Waits for something; `false`: nothing comes any more.
    async fn arrives(&mut self) -> bool {
        let mut inbox = self.inbox.lock().await;
        let Some(first) = inbox.recv().await else {
            return false;
        };
        self.waiting.push_back(first);
        while self.waiting.len() < self.desk.batch
            && let Ok(next) = inbox.try_recv()
        {
            self.waiting.push_back(next);
        }
        true
    }

    /// What waits, as far as it fits into one transaction.
    fn gather(&mut self) -> Vec<Item> {
        let (mut batch, mut keys, mut weight) = (Vec::new(), HashSet::new(), 0);
        while let Some(item) = self.waiting.front() {
            weight += item.write.weight();
            let full = batch.len() >= self.desk.batch || weight > BATCH_BYTES;
            if full && !batch.is_empty() {
                break;
            }
            if item.write.key().is_some_and(|key| !keys.insert(key)) {
                break;
            }
            batch.extend(self.waiting.pop_front());
        }
        batch
    }

    /// Writes a batch, however often that takes.
    async fn write(&mut self, mut batch: Vec<Item>) {
        let (mut failures, mut met) = (0, 0);
        loop {
            let (left, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(Item::is_left);
            let gone = StoreError::Unavailable("nobody waits for it".into());
            self.refuse_all(left, &gone);
            batch = rest;
            if batch.is_empty() {
                return;
            }
            let sent = match self.link.session().await {
                Ok(session) => Box::pin(self.send(&session, &batch)).await,
                Err(fault) => Err(fault),
            };
            match sent {
                Ok(done) => return self.answer(batch, done),
                Err(Fault::Again(_)) if met < TRIES => {
                    met += 1;
                    sleep(backoff(met) / 4).await;
                }
                Err(Fault::Refused(why) | Fault::Again(why)) => {
                    if batch.len() == 1 {
                        return self.refuse_all(batch, &why);
                    }
                    // One of them is at fault; the others must not fail with it.
                    for item in batch {
                        let one = self.patient(vec![item], &why);
                        Box::pin(self.write(one)).await;
                    }
                    return;
                }
                Err(Fault::Doubtful(why)) => {
                    let twice = |item: &Item| item.write.is_safe_twice();
                    let (mut safe, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(twice);
                    self.refuse_all(others, &why);
                    for one in &mut safe {
                        one.doubted = true;
                    }
                    batch = self.patient(safe, &why);
                    sleep(backoff(failures)).await;
                    failures += 1;
                }
                Err(Fault::Unsent(why)) => {
                    self.drain();
                    let waiting = std::mem::take(&mut self.waiting).into();
                    self.waiting = self.patient(waiting, &why).into();
                    batch = self.patient(batch, &why);
                    sleep(backoff(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    /// Takes over what came meanwhile, so that it is not left waiting in silence.
    fn drain(&mut self) {
        let Ok(mut inbox) = self.inbox.try_lock() else {
            return;
        };
        while self.waiting.len() < self.desk.queue
            && let Ok(next) = inbox.try_recv()
        {
            self.waiting.push_back(next);
        }
    }

    /// Those that may still be tried; the others are refused.
    fn patient(&self, items: Vec<Item>, why: &StoreError) -> Vec<Item> {
        let patience = |item: &Item| match item.write {
            Write::Insert(..) => INSERT_PATIENCE,
            _ => self.desk.patience,
        };
        let may = |item: &Item| item.since.elapsed() < patience(item);
        let (may, over): (Vec<_>, Vec<_>) = items.into_iter().partition(may);
        self.refuse_all(over, why);
        may
    }

    async fn send(&self, session: &Session, batch: &[Item]) -> Result<Done, Fault> {
        let (mut inserts, mut rests, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let (mut notes, mut keeps, mut tolds) = (Vec::new(), Vec::new(), Vec::new());
        for item in batch {
            match &item.write {
                Write::Insert(one, _) => inserts.push(&**one),
                Write::Rest(one, _) => rests.push(one),
                Write::Finish(one, _) => ends.push(&**one),
                Write::Note(one, _) => notes.push(one),
                Write::Keep(one, _) => keeps.push(&**one),
                Write::Told(one, _) => tolds.push(one),
            }
        }
        let lengths = [
            inserts.len(),
            rests.len(),
            ends.len(),
            notes.len() * 2,
            keeps.len(),
            tolds.len(),
        ];
        // A statement alone is a transaction by itself.
        let several = notes.len() + lengths.iter().filter(|one| **one > 0).count() > 1;
        let frame = async |sql| {
            if several {
                session.tell(sql).await
            } else {
                Ok(())
            }
        };
        // Each is sent as it is first polled, in this order, and none waits for the answer of another.
        let (begun, inserted, rested, ended, noted, kept, told, committed) = futures_util::join!(
            frame("begin"),
            writes::insert(session, self.desk.gateway, &inserts),
            writes::rest(session, &rests),
            writes::finish(session, &ends),
            notes::note(session, &notes),
            notes::keep(session, &keeps),
            notes::told(session, &tolds),
            frame("commit"),
        );
        // The first that failed tells why; those after it only that something failed before.
        begun?;
        inserted?;
        let (rested, mut ended) = (rested?, ended?);
        noted?;
        kept?;
        told?;
        committed?;
        for item in batch.iter().filter(|item| item.doubted) {
            if let Write::Finish(one, _) = &item.write
                && !ended.contains_key(&one.id)
                && let Some(job) = reads::get(session, &one.id).await?
                && (job.status, job.finished_at) == (one.outcome.status, Some(one.at))
            {
                // It was done, and only its answer was lost.
                ended.insert(one.id.clone(), job);
            }
        }
        Ok(Done { ended, rested })
    }

    fn answer(&self, batch: Vec<Item>, mut done: Done) {
        let desk = &self.desk;
        for (id, route, at) in done.rested {
            if at <= UnixMillis::now() {
                desk.news.tell(News::Due(route));
            }
            desk.news.tell(News::Changed(id));
        }
        for item in batch {
            match item.write {
                Write::Insert(one, reply) => {
                    if one.job.status == Status::Queued {
                        desk.news.tell(News::Due(one.job.route.clone()));
                    }
                    desk.doubts.is_there(&one.job.id);
                    desk.room.settled();
                    let _ = reply.send(Ok(()));
                }
                Write::Finish(one, reply) => {
                    let job = done.ended.remove(&one.id);
                    if let Some(job) = &job {
                        desk.room.leave();
                        desk.news.tell(News::Ended(job.id.clone()));
                        if job.callback.is_some() {
                            desk.news.tell(News::Callback);
                        }
                    }
                    desk.room.settled();
                    let _ = reply.send(Ok(job));
                }
                Write::Rest(_, reply)
                | Write::Note(_, reply)
                | Write::Keep(_, reply)
                | Write::Told(_, reply) => {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }

    fn refuse_all(&self, items: Vec<Item>, why: &StoreError) {
        for one in items {
            self.refuse(one, why);
        }
    }

    fn refuse(&self, item: Item, why: &StoreError) {
        let why = Err(why.clone());
        match item.write {
            Write::Insert(one, reply) => {
                if item.doubted {
                    self.desk.doubts.insert(&one.job.id, one.keyed);
                }
                self.desk.room.leave();
                self.desk.room.settled();
                let _ = reply.send(why);
            }
            Write::Finish(_, reply) => {
                self.desk.room.settled();
                let _ = reply.send(why.map(|()| None));
            }
            Write::Rest(_, reply)
            | Write::Note(_, reply)
            | Write::Keep(_, reply)
            | Write::Told(_, reply) => {
                let _ = reply.send(why);
            }
        }
    }
}
