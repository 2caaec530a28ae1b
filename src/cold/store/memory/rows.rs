//! What a store in memory keeps, and how it changes: pure functions of rows, a gateway and a clock,
//! so that a model check explores the very transitions that tests run on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::deliveries::Told;
use super::order::Queue;
use crate::cold::history::{AttemptRecord, Run};
use crate::cold::job::{
    CallbackStatus, Job, JobId, Owner, Status, StoredAnswer, StoredRequest, UnixMillis,
};
use crate::cold::recall;
use crate::cold::shares::Shares;
use crate::cold::store::{Beat, By, ClaimedJob, LOOKED_AT, ListQuery, News, Outcome};

/// A gateway: an open store.
pub type GatewayId = u64;

/// A job with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The job.
    pub job: Job,
    /// What was sent.
    pub request: StoredRequest,
    /// Its answer.
    pub answer: Option<StoredAnswer>,
    /// How often an end was written, but for those that an operator's retry undid.
    pub ends: u32,
    /// What became of its attempts.
    pub history: Vec<AttemptRecord>,
    /// Who runs it.
    pub holder: Option<GatewayId>,
    /// It was claimed once: no reply of a claim is lost of what was only handed over.
    claimed: bool,
    pub(super) due: UnixMillis,
    pub(super) delivery: Option<Told>,
}

impl Row {
    /// Whether its end is told, or will be.
    pub fn is_called_back(&self) -> bool {
        self.delivery.is_some()
    }

    /// Whether it has an answer that succeeded.
    pub fn answer_is_whole(&self) -> bool {
        let status = self.answer.as_ref().map(|answer| answer.status);
        status.is_some_and(|status| (200..300).contains(&status))
    }

    /// The name under which its end is told.
    pub fn webhook_id(&self) -> Option<&str> {
        self.delivery.as_ref().map(|told| &*told.name)
    }
}

/// Rows by their order of arrival, what the queue is asked for, and the gateways' leases.
#[derive(Clone, Default)]
pub struct Rows {
    pub(super) all: BTreeMap<u64, Row>,
    pub(super) names: HashMap<JobId, u64>,
    queued: HashMap<String, Queue>,
    pub(super) unfinished: BTreeSet<(UnixMillis, u64)>,
    pub(super) keys: HashMap<[u8; 32], recall::Kept>,
    next: u64,
    /// When each gateway's lease ends; `None`: it ended and what it held was queued.
    pub(super) leases: BTreeMap<GatewayId, Option<Duration>>,
    /// What is to be told to the other gateways.
    pub(super) news: Vec<News>,
    /// By which callers take turns.
    pub(super) shares: Shares,
    /// For the model check: fences are not looked at, which must be found.
    pub(super) unfenced: bool,
}

pub(super) fn may_retry(job: &Job) -> bool {
    job.status.is_final() && job.status != Status::Succeeded
}

impl Rows {
    pub(super) fn row(&mut self, id: &JobId) -> Option<(u64, &mut Row)> {
        let at = *self.names.get(id)?;
        Some((at, self.all.get_mut(&at)?))
    }

    /// Moves a job between states; only one that runs has a holder.
    fn moves(&mut self, at: u64, status: Status, due: UnixMillis) {
        let Some(row) = self.all.get_mut(&at) else {
            return;
        };
        let queue = self.queued.entry(row.job.route.clone()).or_default();
        queue.remove(row, at);
        (row.job.status, row.due) = (status, due);
        if status == Status::Queued {
            queue.insert(row, at);
            self.news.push(News::Due(row.job.route.clone()));
        }
        if status != Status::Running {
            row.holder = None;
        }
        self.news.push(if status.is_final() {
            News::Ended(row.job.id.clone())
        } else {
            News::Changed(row.job.id.clone())
        });
    }

    /// Since when the job of each route that waited longest could run.
    pub(super) fn oldest(&self, now: UnixMillis) -> Vec<(String, UnixMillis)> {
        let mut oldest = BTreeMap::new();
        for (_, at) in self.unfinished.iter().take(LOOKED_AT) {
            let waits = self
                .all
                .get(at)
                .filter(|row| row.job.status == Status::Queued && row.due <= now);
            if let Some(row) = waits {
                let since = oldest.entry(row.job.route.clone()).or_insert(row.due);
                *since = row.due.min(*since);
            }
        }
        oldest.into_iter().collect()
    }

    pub(super) fn insert(&mut self, gateway: GatewayId, job: Job, request: StoredRequest) {
        let at = self.next;
        self.next += 1;
        let (status, due) = (job.status, job.created_at);
        self.names.insert(job.id.clone(), at);
        self.unfinished.insert((job.expires_at, at));
        let delivery = job.callback.is_some().then(Told::new);
        let row = Row {
            job,
            request,
            answer: None,
            ends: 0,
            history: Vec::new(),
            holder: Some(gateway),
            claimed: false,
            due,
            delivery,
        };
        self.all.insert(at, row);
        self.moves(at, status, due);
    }

    /// Routes of which a claim would take jobs.
    pub(super) fn due(&self, now: UnixMillis) -> Vec<String> {
        let due = self.queued.iter().filter(|(_, queue)| queue.has_due(now));
        due.map(|(route, _)| route.clone()).collect()
    }

    pub(super) fn claim(
        &mut self,
        gateway: GatewayId,
        route: &str,
        limit: usize,
        now: UnixMillis,
    ) -> Vec<ClaimedJob> {
        let queue = self.queued.entry(route.to_owned()).or_default();
        let taken = queue.take(limit, now, &self.shares);
        let claim = |at: u64| {
            let due = self.all.get(&at)?.due;
            self.moves(at, Status::Running, due);
            let row = self.all.get_mut(&at)?;
            row.job.attempts += 1;
            row.job.fence += 1;
            (row.holder, row.claimed) = (Some(gateway), true);
            Some(ClaimedJob {
                job: row.job.clone(),
                request: row.request.clone(),
            })
        };
        taken.into_iter().filter_map(claim).collect()
    }

    /// Puts a job back that runs under this fence; `tried`: its last attempt counts.
    pub(super) fn release(&mut self, id: &JobId, fence: u64, at: UnixMillis, tried: bool) {
        let unfenced = self.unfenced;
        if let Some((row, Row { job, .. })) = self.row(id)
            && job.status == Status::Running
            && (job.fence == fence || unfenced)
        {
            job.attempts -= u32::from(!tried && job.attempts > 0);
            self.moves(row, Status::Queued, at);
        }
    }

    pub(super) fn finish(
        &mut self,
        id: &JobId,
        by: By,
        outcome: Outcome,
        now: UnixMillis,
    ) -> Option<Job> {
        let unfenced = self.unfenced;
        let (at, row) = self.row(id)?;
        if row.job.status.is_final() || !(by.may_end(&row.job) || unfenced) {
            return None;
        }
        row.job.finished_at = Some(now);
        row.job.error = outcome.error;
        row.answer = outcome.answer;
        row.ends += 1;
        if by == By::Refused {
            (row.job.callback, row.delivery) = (None, None);
        }
        if let Some(told) = &mut row.delivery {
            told.due = Some(now);
            self.news.push(News::Callback);
        }
        let row = self.all.get(&at)?;
        let (due, expires_at) = (row.due, row.job.expires_at);
        self.moves(at, outcome.status, due);
        self.unfinished.remove(&(expires_at, at));
        Some(self.all.get(&at)?.job.clone())
    }

    pub(super) fn retry(
        &mut self,
        id: &JobId,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> Option<Job> {
        let (at, row) = self.row(id)?;
        if !may_retry(&row.job) {
            return None;
        }
        (row.job.finished_at, row.job.error, row.answer) = (None, None, None);
        (row.job.attempts, row.job.expires_at, row.ends) = (0, expires_at, 0);
        row.job.fence += 1;
        if let (Some(callback), Some(delivery)) = (&mut row.job.callback, &mut row.delivery) {
            (callback.status, callback.deliveries) = (CallbackStatus::Pending, 0);
            callback.last_error = None;
            *delivery = Told::new();
        }
        self.unfinished.insert((expires_at, at));
        self.moves(at, Status::Queued, now);
        Some(self.all.get(&at)?.job.clone())
    }

    /// Renews a gateway's lease, and queues what those held whose lease has ended. One whose own
    /// lease had ended unnoticed only renews it, so that after an outage of the store all who live
    /// renew theirs before any is taken for dead.
    pub(super) fn beat(
        &mut self,
        gateway: GatewayId,
        (lease, clock): (Duration, Duration),
        now: UnixMillis,
    ) -> Beat {
        let before = self.leases.insert(gateway, Some(clock + lease));
        if let Some(Some(end)) = before
            && end <= clock
        {
            return Beat::default();
        }
        let dead: Vec<GatewayId> = self
            .leases
            .iter()
            .filter(|(_, end)| end.is_some_and(|end| end <= clock))
            .map(|(gateway, _)| *gateway)
            .collect();
        for gateway in dead {
            self.leases.insert(gateway, None);
        }
        let leases = self.leases.clone();
        let is_dead = |holder: GatewayId| !matches!(leases.get(&holder), Some(Some(_)));
        Beat {
            lost: matches!(before, Some(None)),
            rescued: self.requeue(now, is_dead),
        }
    }

    /// Ends a gateway's lease, and queues what it held.
    pub(super) fn leave(&mut self, gateway: GatewayId, now: UnixMillis) -> u64 {
        self.leases.remove(&gateway);
        self.requeue(now, |holder| holder == gateway)
    }

    /// Queues what a gateway is said to run but for what it knows of, as if that had not been tried.
    pub(super) fn strays(
        &mut self,
        gateway: GatewayId,
        held: &[(JobId, u64)],
        now: UnixMillis,
    ) -> u64 {
        let run = |row: &Row| (row.job.id.clone(), row.job.fence);
        let all = self.all.values();
        let ours = all
            .filter(|row| row.claimed && row.holder == Some(gateway))
            .map(run);
        let strays: Vec<_> = ours.filter(|run| !held.contains(run)).collect();
        for (id, fence) in &strays {
            self.release(id, *fence, now, false);
        }
        strays.len() as u64
    }

    fn requeue(&mut self, now: UnixMillis, gone: impl Fn(GatewayId) -> bool) -> u64 {
        let mut running = Vec::new();
        for (at, row) in &mut self.all {
            if let Some(told) = row
                .delivery
                .as_mut()
                .filter(|told| told.claimed.is_some_and(&gone))
            {
                (told.due, told.claimed) = (Some(now), None);
                self.news.push(News::Callback);
            }
            if row.holder.is_some_and(&gone) {
                let lost = Run::lost(row.job.attempts.max(1), now);
                row.history.push(lost);
                running.push(*at);
            }
        }
        for at in &running {
            self.moves(*at, Status::Queued, now);
        }
        running.len() as u64
    }

    pub(super) fn sweep(&mut self, limit: usize, before: UnixMillis) -> u64 {
        let told = |row: &Row| {
            let callback = row.job.callback.as_ref();
            let died = row.delivery.as_ref().and_then(|told| told.died);
            callback.is_none_or(|one| one.status != CallbackStatus::Pending)
                && died.is_none_or(|died| died < before)
        };
        let old = |row: &Row| row.job.finished_at.filter(|at| *at < before && told(row));
        let mut found: Vec<_> = self
            .all
            .iter()
            .filter_map(|(at, row)| Some((old(row)?, *at)))
            .collect();
        found.sort_unstable();
        found.truncate(limit);
        for (_, at) in &found {
            if let Some(row) = self.all.remove(at) {
                self.names.remove(&row.job.id);
            }
        }
        let mut keys: Vec<_> = self.keys.values().filter(|kept| kept.at < before).collect();
        keys.sort_unstable_by_key(|kept| kept.at);
        let keys: Vec<_> = keys.iter().take(limit).map(|kept| kept.key.name).collect();
        for name in &keys {
            self.keys.remove(name);
        }
        (found.len() + keys.len()) as u64
    }

    pub(super) fn list(&self, query: &ListQuery) -> Vec<Job> {
        let before = query.after.as_ref().and_then(|id| self.names.get(id));
        let before = before.copied().unwrap_or(u64::MAX);
        let wanted = |job: &Job| {
            let owns = |owner: Owner| job.owner == owner;
            query.owner.is_none_or(owns)
                && query.status.is_none_or(|status| job.status == status)
                && query.route.as_ref().is_none_or(|route| job.route == *route)
        };
        let rows = self.all.range(..before).rev().map(|(_, row)| &row.job);
        let limit = query.limit.min(1_001);
        rows.filter(|job| wanted(job))
            .take(limit)
            .cloned()
            .collect()
    }
}
