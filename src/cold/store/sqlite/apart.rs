//! Rows whose body may stand apart.
//!
//! Promises: a large body is on disk before the row that names it; a row is given with its body or
//! not at all.

use std::time::Duration;

use rusqlite::Connection;
use tokio::time::{Instant, sleep};

use super::bodies::{Named, is_large};
use super::worker::Desk;
use super::{SqliteStore, order, sweep, writes};
use crate::cold::job::{Job, JobId, StoredAnswer, StoredRequest, UnixMillis};
use crate::cold::recall::{Became, Kept};
use crate::cold::store::{By, ClaimedJob, Outcome, Store as _, StoreError};

/// Until a job is tried again whose body could not be read at this moment.
const AGAIN: Duration = Duration::from_secs(1);

impl SqliteStore {
    pub(super) async fn insert_whole(
        &self,
        job: Job,
        mut request: StoredRequest,
    ) -> Result<(), StoreError> {
        let limit = self.queue_limit;
        if is_large(&request.body) {
            // Refused before its body is written.
            self.write(move |desk| writes::room(desk, limit)).await?;
        }
        let apart = self.bodies.take(&mut request.body).await?;
        let write = move |desk: &Desk| {
            let name = apart.as_ref().map(Named::name);
            writes::insert(desk, limit, &job, &request, name)?;
            // Held until after the commit, whoever asked may have left.
            Ok(apart)
        };
        self.write(write).await.map(drop)
    }

    pub(super) async fn claim_whole(
        &self,
        route: String,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Vec<ClaimedJob>, StoreError> {
        let write = move |desk: &Desk| order::claim(desk, &route, limit, now);
        let mut claimed = Vec::new();
        for (mut one, apart) in self.write(write).await? {
            let body = self.bodies.give_back(&mut one.request.body, apart).await;
            match body {
                Ok(()) => claimed.push(one),
                Err(why @ StoreError::Unreadable(_)) => {
                    claimed.push(ClaimedJob::unreadable(one.job, &why));
                }
                // The disk may have it in a moment. It is no attempt.
                Err(_) => {
                    let at = now.plus(AGAIN);
                    self.postpone(&one.job.id, one.job.fence, at).await?;
                }
            }
        }
        Ok(claimed)
    }

    pub(super) async fn finish_whole(
        &self,
        id: JobId,
        by: By,
        mut outcome: Outcome,
        now: UnixMillis,
    ) -> Result<Option<Job>, StoreError> {
        let apart = match &mut outcome.answer {
            Some(answer) => self.bodies.take(&mut answer.body).await?,
            None => None,
        };
        let write = move |desk: &Desk| {
            let name = apart.as_ref().map(Named::name);
            let job = writes::finish(desk, &id, by, (&outcome, name), now)?;
            Ok((job, apart))
        };
        self.write(write).await.map(|(job, _)| job)
    }

    pub(super) async fn whole_answer(&self, id: JobId) -> Result<Option<StoredAnswer>, StoreError> {
        let read = move |connection: &Connection| writes::answer(connection, &id);
        let Some((mut answer, apart)) = self.read(read).await? else {
            return Ok(None);
        };
        self.bodies.give_back(&mut answer.body, apart).await?;
        Ok(Some(answer))
    }

    pub(super) async fn whole_answer_size(&self, id: JobId) -> Result<Option<u64>, StoreError> {
        let read = move |connection: &Connection| writes::answer_size(connection, &id);
        match self.read(read).await? {
            Some((_, Some(name))) => self.bodies.size(name).await.map(Some),
            found => Ok(found.map(|(size, _)| size)),
        }
    }

    pub(super) async fn keep_whole(&self, mut kept: Kept) -> Result<(), StoreError> {
        let apart = match &mut kept.what {
            Became::Answer(answer) => self.bodies.take(&mut answer.body).await?,
            Became::Job(_) => None,
        };
        let write = move |desk: &Desk| {
            writes::keep(desk, &kept, apart.as_ref().map(Named::name))?;
            Ok(apart)
        };
        self.write(write).await.map(drop)
    }

    pub(super) async fn whole_kept(&self, name: [u8; 32]) -> Result<Option<Kept>, StoreError> {
        let read = move |connection: &Connection| writes::kept(connection, name);
        let Some((mut kept, apart)) = self.read(read).await? else {
            return Ok(None);
        };
        if let Became::Answer(answer) = &mut kept.what {
            self.bodies.give_back(&mut answer.body, apart).await?;
        }
        Ok(Some(kept))
    }

    /// Where no row is old any more, bodies that no row names are deleted.
    pub(super) async fn sweep_all(
        &self,
        limit: usize,
        before: UnixMillis,
    ) -> Result<u64, StoreError> {
        loop {
            let began = Instant::now();
            let rows = move |desk: &Desk| sweep::sweep(desk, limit, before);
            let (swept, is_round) = self.write(rows).await?;
            if swept > 0 {
                return Ok(swept);
            }
            if is_round {
                break;
            }
            // All of the step went by jobs that are kept: others write before the next.
            sleep(began.elapsed()).await;
        }
        let mut after = i64::MIN;
        while let Some((names, last)) = self.bodies.names(after).await? {
            after = last;
            let asked = names.clone();
            let read = move |connection: &Connection| writes::named(connection, &asked);
            let named = self.read(read).await?;
            for name in names.iter().filter(|name| !named.contains(name)) {
                self.bodies.delete(*name).await?;
            }
        }
        Ok(0)
    }
}
