//! Takes due jobs from the store and starts them, as far as slots and quotas allow.
//!
//! Promises: what is held back stays queued in the store; when a job ends and more are due the
//! next is taken at once; an empty store is asked only at each `LOOK`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::writes::Write;
use super::{ColdRoute, LOOK, Runner, STEP, call};
use crate::cold::job::{Job, JobError, UnixMillis};
use crate::cold::quota;
use crate::cold::store::{ClaimedJob, Outcome, StoreFuture};
use crate::journal::context::TRACEPARENT;
use crate::journal::work;
use crate::meter::Use;
use crate::upstream::attempt::{Attempt, Start};
use crate::upstream::attempts::Attempts;
use crate::upstream::target::Call;

/// The shortest wait for room in a quota.
const SHORTEST: Duration = Duration::from_millis(10);

/// Longest wait for the store's reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// How late a claim that was not answered may still be done.
const LATE: Duration = Duration::from_mins(1);

impl Runner {
    /// Starts due jobs of routes that are known to have some; `all`: the store is asked first which have.
    /// Gives how long to wait for room in a quota, if jobs are held back.
    pub(super) async fn claim(self: &Arc<Self>, all: bool) -> Option<Duration> {
        if all && let Ok(Ok(due)) = timeout(PATIENCE, self.parts.store.due(UnixMillis::now())).await
        {
            for route in due.iter().filter_map(|name| self.route(name)) {
                route.more.store(true, Ordering::Relaxed);
            }
        }
        let routes = self.parts.routes.load_full();
        // Each time another route goes first, so that none takes the whole of a shared quota.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % routes.len().max(1);
        let mut held: Option<Duration> = None;
        for route in routes.values().cycle().skip(turn).take(routes.len()) {
            if route.more.load(Ordering::Relaxed)
                && let Some(wait) = self.claim_of(route).await
            {
                let wait = wait.clamp(SHORTEST, LOOK);
                held = Some(held.map_or(wait, |held| held.min(wait)));
            }
        }
        held
    }

    /// Starts due jobs of one route.
    async fn claim_of(self: &Arc<Self>, route: &Arc<ColdRoute>) -> Option<Duration> {
        let free = route.slots.available_permits().min(STEP);
        if free == 0 {
            // Whichever job ends first wakes the runner.
            route.more.store(true, Ordering::Relaxed);
            return None;
        }
        let now = Instant::now();
        let room = match quota::room(&route.targets, now) {
            // A job that no target has a place for stays where it is.
            Ok(room) => room.min(free),
            Err(wait) => {
                let more = route.more.load(Ordering::Relaxed);
                if more {
                    quota::note_held(&route.targets, now, &self.parts.meter);
                }
                return more.then_some(wait);
            }
        };
        // Cleared before the store is asked: a job that comes meanwhile sets it again.
        route.more.store(false, Ordering::Relaxed);
        let due = UnixMillis::now();
        let claimed = self
            .taken(self.parts.store.claim(&route.name, room, due))
            .await;
        let none = claimed.is_empty();
        if claimed.len() == room {
            route.more.store(true, Ordering::Relaxed);
        }
        for claimed in claimed {
            self.start(claimed, route);
        }
        if room < free && route.more.load(Ordering::Relaxed) {
            return Some(SHORTEST);
        }
        // A route without jobs says nothing of another's that wait for the same provider.
        if !none {
            quota::note_free(&route.targets);
        }
        None
    }

    /// What a claim took. One without a reply may have taken jobs all the same.
    async fn taken(&self, claim: StoreFuture<'_, Vec<ClaimedJob>>) -> Vec<ClaimedJob> {
        let claimed = timeout(PATIENCE, claim).await;
        if let Ok(Ok(claimed)) = claimed {
            return claimed;
        }
        self.expect_strays();
        Vec::new()
    }

    /// A claim of this moment may still take jobs, or have taken some.
    fn expect_strays(&self) {
        let mut strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        *strays = Some(Instant::now() + LATE);
    }

    /// Gives back what a claim may have taken without our hearing of it. Not beside a claim.
    pub(super) async fn give_back_strays(&self) {
        let until = *self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_none_or(|until| until < Instant::now()) {
            return;
        }
        let (store, now) = (&self.parts.store, UnixMillis::now());
        match timeout(PATIENCE, store.strays(self.runs.all(), now)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(strays)) => {
                tracing::info!(strays, "jobs whose claim was not answered are due again");
            }
            // It is asked again after all of the time in which a claim may still come to light.
            _ => self.expect_strays(),
        }
    }

    /// Starts a claimed job: its part of the quota is taken when this returns.
    fn start(self: &Arc<Self>, claimed: ClaimedJob, route: &Arc<ColdRoute>) {
        let ClaimedJob { job, request } = claimed;
        // It runs here already and was taken back.
        let Some(stop) = self.runs.enter(&job.id, job.fence) else {
            return;
        };
        let permit = route.slots.clone().try_acquire_owned().ok();
        // A later one waits for its back-off, or was asked for by an operator long after.
        if job.fence == 1 {
            route.queue.record(job.created_at.until(UnixMillis::now()));
        }
        let call = call(request, route.targets.dialect());
        let call = call.map(|call| {
            (
                quota::take(&route.targets, &call.body, Instant::now()),
                call,
            )
        });
        let (runner, route) = (self.clone(), route.clone());
        self.parts.tasks.spawn(async move {
            // Who ended it while it was claimed could not stop it; whoever ends it from here on can.
            if !runner.still_runs(&job).await {
                if let Some((Some(place), _)) = &call {
                    place.target.health.given_up(place.picked);
                }
                runner.runs.leave(&job.id, &stop, job.fence);
                return;
            }
            match call {
                Some((Some(place), call)) => {
                    let began = UnixMillis::now();
                    let (attempts, span) = runner.first_attempt(&job, &call, place, &route);
                    let until = Instant::now() + began.until(job.expires_at);
                    let driven = runner.drive(&job, attempts, began, until, span);
                    let (job, route) = (Box::new(job), route.clone());
                    runner.clone().run(job, driven, route, stop).await;
                }
                // Hot calls took the last place meanwhile: no attempt was made.
                Some((None, _)) => {
                    let at = UnixMillis::now().plus(LOOK);
                    runner.write(&job.id, &stop, Write::Postpone(at)).await;
                }
                None => {
                    let wrong =
                        || JobError::new("bad_request", "the stored request cannot be read");
                    let error = job.error.clone().unwrap_or_else(wrong);
                    let end = Write::End(Outcome::failed(error, None));
                    runner.write(&job.id, &stop, end).await;
                }
            }
            drop(permit);
            if route.more.load(Ordering::Relaxed) {
                runner.wake.notify_one();
            }
        });
    }

    fn first_attempt(
        &self,
        job: &Job,
        call: &Call,
        place: quota::Place,
        route: &ColdRoute,
    ) -> (Attempts, Option<Box<work::Run>>) {
        let quota::Place {
            target,
            permit,
            part,
            picked,
        } = place;
        let now = Instant::now();
        target.health.probes_from(picked, now);
        let mut request = target.request(call, None);
        *request.uri_mut() = call.path.clone().into();
        let mut span = self.span(job, call);
        if let Some(span) = &mut span {
            let context = span.attempts(&target);
            request.headers_mut().insert(TRACEPARENT, context);
        }
        let mut attempt = Attempt::start(Start {
            request,
            target,
            permit,
            part: Some(part),
            now,
            worker: self.parts.pool,
            connect: route.connect,
            streamed: call.streamed,
            basis: None,
            witness: route.witness(job, call.kind),
        });
        attempt.used_for(Use::Cold);
        let mut attempts = Attempts::default();
        attempts.push(attempt, false);
        (attempts, span)
    }
}
