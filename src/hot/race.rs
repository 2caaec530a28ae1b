//! Starts a call's attempts and picks the first answer.
//!
//! A second attempt starts after the route's delay (Dean and Barroso, CACM 2013) if the bucket
//! allows it; the first with content wins and the others are cancelled at once. After a failure
//! another attempt starts, within the deadline and the retry budget. Where targets have limits and
//! all are full, the race waits for a place; a hedge never does. Promises: dropping the race
//! cancels every attempt; at the deadline the running attempts are given back, still running.

mod again;
mod hedge;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use self::again::Failed;
use super::budget::Deadline;
use super::record::Record;
use super::route::Route;
use crate::alarm::{Alarms, Borrowed};
use crate::journal::timeline::Kind;
use crate::meter::Said;
use crate::placed::boxed;
use crate::upstream::attempt::{Attempt, Broken, Hold, Start, Verdict};
use crate::upstream::attempts::{Attempts, Entry};
use crate::upstream::body::OutBody;
use crate::upstream::permits::{Claimant, Permit, Waiting};
use crate::upstream::place::Place;
use crate::upstream::refusal::label;
use crate::upstream::target::{Call, Target};

/// How a race ended.
pub enum Finish {
    /// An answer to pass on.
    Answer(Box<Attempt>),
    /// The deadline came first.
    Deadline,
    /// The provider wants the call later than its caller waits, or is not there, and it may become a
    /// job.
    Later,
    /// No attempt got an answer.
    Broken(Broken),
    /// No target has a place in time; until when one may have, about.
    Overloaded(Duration),
}

/// What a race may do.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Which worker's connections are used.
    pub worker: usize,
    /// When the call must be answered; `None`: it may take its time.
    pub deadline: Option<Instant>,
    /// The deadline ends it, and is not only observed.
    pub enforced: bool,
    /// How much is read before an answer wins.
    pub hold: Hold,
    /// The call may be sent twice.
    pub safe: bool,
    /// The call may be sent again after a failure.
    pub retry: bool,
    /// The call may become a job.
    pub job: bool,
    /// What was predicted of it.
    pub said: Option<Said>,
    /// Who waits for a place.
    pub claimant: Claimant,
}

/// What the first attempt takes, so that it costs no copy.
pub struct First {
    /// The call's headers, in the map that they came in: it has room for the answer's.
    pub headers: HeaderMap,
    /// A body that is not kept, for the only attempt.
    pub body: Option<OutBody>,
}

/// A race of one call's attempts.
pub struct Race<'a> {
    route: &'a Arc<Route>,
    call: &'a Call,
    rules: Rules,
    first: Option<First>,
    attempts: &'a mut Attempts,
    record: &'a mut Record,
    began: Instant,
    hedge_at: Option<Instant>,
    /// When it is sent again, and to whom if to nobody better.
    retry_at: Option<(Instant, Arc<Target>)>,
    retries: u32,
    /// What failed while a hedge ran beside it.
    failed: Option<Box<Failed>>,
    /// It waits for a place at this target.
    waiting: Option<(Arc<Target>, Waiting)>,
    /// There is no place for it in time, but perhaps after so long.
    shed: Option<Duration>,
    /// What goes off at the nearest of its times.
    alarm: Option<Borrowed>,
    alarms: &'a Arc<Alarms>,
}

enum Event {
    Judged(Entry, Verdict),
    Placed(Arc<Target>, Permit),
    Timer,
}

impl<'a> Race<'a> {
    /// A race that has not begun. `attempts` keeps what runs, so that it outlives the race.
    pub fn new(
        route: &'a Arc<Route>,
        call: &'a Call,
        first: First,
        attempts: &'a mut Attempts,
        record: &'a mut Record,
        rules: Rules,
        alarms: &'a Arc<Alarms>,
    ) -> Self {
        Self {
            route,
            call,
            rules,
            first: Some(first),
            attempts,
            record,
            began: Instant::now(),
            hedge_at: None,
            retry_at: None,
            retries: route.retries.max,
            failed: None,
            waiting: None,
            shed: None,
            alarm: None,
            alarms,
        }
    }

    /// Starts the first attempt.
    pub fn begin(&mut self) {
        let route = self.route;
        let target = route.targets.first(self.began).clone();
        route.hedges.earn();
        target.provider.retries.earn();
        self.enter(target, self.began);
    }

    /// Starts an attempt where there is a place, the picked target first; else waits for one, or
    /// gives up where that would take too long.
    fn enter(&mut self, picked: Arc<Target>, now: Instant) {
        match self.route.targets.enter(picked, now) {
            Place::Free(target, permit) => self.placed(target, permit, now),
            Place::Full(target, permits) => {
                let ends = self.rules.deadline.filter(|_| self.rules.enforced);
                let left = ends.map(|deadline| deadline - now);
                self.record.waits(now);
                match permits.wait(self.rules.claimant, left, now) {
                    Ok(waiting) => self.waiting = Some((target, waiting)),
                    Err(wait) => self.shed = Some(wait),
                }
            }
        }
    }

    /// A place that it waited for is free; another target's is better, where this one is left alone by now.
    fn got_in(&mut self, target: Arc<Target>, mut permit: Permit, now: Instant) {
        match self
            .route
            .targets
            .instead_of(&target, self.attempts.tried(), now)
        {
            Some((other, place)) => {
                permit.is_no_measure();
                drop(permit);
                self.placed(other, place, now);
            }
            None => self.placed(target, permit, now),
        }
    }

    fn placed(&mut self, target: Arc<Target>, permit: Permit, now: Instant) {
        let first = self.attempts.made() == 0;
        let kind = if first { Kind::First } else { Kind::Retry };
        self.launch(target, permit, kind, now);
        if first {
            self.hedge_at = self.next_hedge(now);
        }
    }

    /// What its end means: a deadline that came while it waited for a place is an overload.
    pub fn conclude(&self, finish: Finish) -> Finish {
        match (finish, &self.waiting) {
            (Finish::Deadline, Some((_, waiting))) => Finish::Overloaded(waiting.expected()),
            (finish, _) => finish,
        }
    }

    /// The deadline passed, and its caller is let go for it.
    pub fn misses(&mut self, deadline: Deadline) {
        self.record.misses(deadline);
    }

    /// The deadline passed and is only observed: the race goes on without one.
    pub fn go_on(&mut self, action: &'static str) {
        self.record.went_over(action);
        self.rules.deadline = None;
    }

    /// Runs it until it ends or its deadline passes.
    pub async fn run(&mut self) -> Finish {
        let finish = loop {
            if let Some(wait) = self.shed {
                break Finish::Overloaded(wait);
            }
            let event = self.next().await;
            let finish = match event {
                Event::Judged(entry, verdict) => self.judge(entry, verdict),
                Event::Placed(target, permit) => {
                    self.got_in(target, permit, Instant::now());
                    None
                }
                Event::Timer => self.timer(),
            };
            if let Some(finish) = finish {
                break finish;
            }
        };
        let ended = match &finish {
            Finish::Answer(attempt) => attempt.judged(),
            _ => Instant::now(),
        };
        self.record.waited_for_provider(ended - self.began);
        finish
    }

    /// Waits for a verdict, a place or the nearest timer; a verdict that is there goes first.
    async fn next(&mut self) -> Event {
        let retry = self.retry_at.as_ref().map(|(at, _)| *at);
        let due = [self.rules.deadline, self.hedge_at, retry];
        let due = due.into_iter().flatten().min();
        match (&mut self.alarm, due) {
            (Some(alarm), Some(due)) => alarm.reset(due),
            (alarm, due) => *alarm = due.map(|due| self.alarms.take(due)),
        }
        let (attempts, hold) = (&mut *self.attempts, self.rules.hold);
        let (waiting, alarm) = (&mut self.waiting, &mut self.alarm);
        poll_fn(|context| {
            if let Some((target, place)) = waiting
                && let Poll::Ready(permit) = Pin::new(place).poll(context)
            {
                let placed = Event::Placed(target.clone(), permit);
                *waiting = None;
                return Poll::Ready(placed);
            }
            if let Poll::Ready((entry, verdict)) = attempts.poll(context, hold) {
                return Poll::Ready(Event::Judged(entry, verdict));
            }
            let due = alarm.as_mut().map(|alarm| alarm.poll(context));
            due.unwrap_or(Poll::Pending).map(|()| Event::Timer)
        })
        .await
    }

    fn launch(&mut self, target: Arc<Target>, permit: Permit, kind: Kind, now: Instant) {
        let (first, hedge) = (kind == Kind::First, kind == Kind::Hedge);
        let line = self.route.line(self.call.streamed);
        let basis = if hedge {
            Some(line.second.clone())
        } else {
            first.then(|| line.first.clone())
        };
        let predictor = &self.route.predictor;
        let witness = first.then(|| predictor.witness(self.call.kind, self.rules.said));
        let mut request = match self.first.take() {
            Some(First { headers, body }) => target.with(headers, self.call, body),
            None => target.request(self.call, None),
        };
        *request.uri_mut() = self.call.path.clone().into();
        let headers = request.headers_mut();
        self.record.attempts(&target, kind, now, headers);
        let bytes = http_body::Body::size_hint(request.body()).lower();
        target.provider.quota.sent(bytes, now);
        let attempt = Attempt::start(Start {
            request,
            target,
            permit,
            part: None,
            now,
            worker: self.rules.worker,
            connect: self.route.budget.connect.get(),
            streamed: self.call.streamed,
            basis,
            witness: witness.flatten(),
        });
        self.attempts.push(attempt, hedge);
    }

    fn timer(&mut self) -> Option<Finish> {
        let now = Instant::now();
        if self.rules.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(Finish::Deadline);
        }
        if self.hedge_at.is_some_and(|at| now >= at) {
            self.hedge_at = None;
            // What waits to be sent again is not hedged: nothing runs that could be slow.
            if self.attempts.running() > 0 {
                self.hedge(now);
            }
        }
        if let Some((_, failed)) = self.retry_at.take_if(|(at, _)| now >= *at) {
            let targets = &self.route.targets;
            let target = targets.again(self.attempts.tried(), &failed, now).clone();
            self.enter(target, now);
        }
        None
    }

    fn judge(&mut self, entry: Entry, verdict: Verdict) -> Option<Finish> {
        let (reason, rest) = match &verdict {
            Verdict::Answer => return self.answered(entry),
            Verdict::Refused(status, rest) => (label(*status), *rest),
            Verdict::Told => ("error_event", None),
            Verdict::Broken(broken) => (broken.reason(), None),
        };
        if entry.hedge {
            self.route.meter.hedges_failed.increment(1);
        }
        self.record.failed(&entry, &verdict, reason);
        let last_word = entry.attempt.has_last_word();
        let failed = Failed {
            verdict,
            rest: rest.filter(|_| !last_word),
            there: (!last_word).then(|| entry.attempt.target().clone()),
            reason,
        };
        // Another attempt still runs: its answer may be better.
        if self.attempts.running() > 0 {
            if !entry.hedge {
                self.failed = Some(boxed(|| failed));
            }
            return None;
        }
        // What a hedge ran beside weighs more than the hedge.
        let before = self.failed.take().filter(|_| entry.hedge);
        let next = before.and_then(|before| self.after(&before));
        match next.or_else(|| self.after(&failed)) {
            Some(next) => next.finish(),
            None => self.gives_up(entry, failed.verdict),
        }
    }

    fn wins(&mut self, entry: Entry) -> Finish {
        let meter = &self.route.meter;
        if entry.hedge {
            meter.hedges_won.increment(1);
        }
        self.record.won(&entry);
        let lost = self.attempts.cancel_losers();
        meter.hedges_lost.increment(lost as u64);
        Finish::Answer(entry.attempt)
    }

    /// Nothing will improve on it.
    fn gives_up(&mut self, entry: Entry, verdict: Verdict) -> Option<Finish> {
        if let Verdict::Broken(broken) = verdict {
            return Some(Finish::Broken(broken));
        }
        // It is passed on, once as much of it was read as of any answer.
        self.hedge_at = None;
        self.attempts.put_back(entry);
        None
    }
}

impl Drop for Race<'_> {
    fn drop(&mut self) {
        // At the deadline, or when their caller leaves, they run yet: they came too late.
        let lost = self.attempts.hedges();
        if lost > 0 {
            self.route.meter.hedges_lost.increment(lost as u64);
        }
    }
}
