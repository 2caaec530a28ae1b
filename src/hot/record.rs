//! What a call is counted as: once, whatever becomes of it.
//!
//! Promises: a call whose caller left counts as cancelled with status 499, with at least its age;
//! the gateway's own time is what neither the provider, the caller nor the store of jobs took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::budget::Deadline;
use super::error::Code;
use super::route::Route;
use crate::auth::Admission;
use crate::cold::job::{Owner, Reason};
use crate::config::MidStream;
use crate::journal::timeline::{CALLER_LEFT, Ending, Timeline};
use crate::meter::Outcome;
use crate::upstream::permits::Claimant;
use crate::upstream::target::Target;

/// The record of one call; dropped before `finish`, it says that the caller left.
pub struct Record {
    route: Arc<Route>,
    arrived: Instant,
    streamed: bool,
    target: Option<Arc<Target>>,
    status: u16,
    outcome: Option<Outcome>,
    over: bool,
    /// The budget at whose end, or before it, its caller was let go.
    let_go: Option<Duration>,
    /// Cancelled with its scope, if it has one.
    scope: Option<CancellationToken>,
    /// It was counted.
    counted: bool,
    first_token: Option<Duration>,
    waited_for_caller: Duration,
    waited_for_provider: Duration,
    waited_for_store: Duration,
    /// The caller's key: the call counts as running for it.
    admission: Option<Admission>,
    /// Set when the caller left and the call goes on for others.
    orphaned: Option<Arc<AtomicBool>>,
    /// What is told of it, where calls are told of.
    timeline: Option<Timeline>,
}

impl Record {
    /// A call of `route` that arrived then.
    pub fn new(route: Arc<Route>, arrived: Instant, streamed: bool) -> Self {
        Self {
            route,
            arrived,
            streamed,
            target: None,
            status: CALLER_LEFT,
            outcome: None,
            over: false,
            let_go: None,
            scope: None,
            counted: false,
            first_token: None,
            waited_for_caller: Duration::ZERO,
            waited_for_provider: Duration::ZERO,
            waited_for_store: Duration::ZERO,
            admission: None,
            orphaned: None,
            timeline: None,
        }
    }

    /// It is told of.
    pub fn is_told(&mut self, mut timeline: Timeline, model: Option<&str>) {
        timeline.takes(&self.route.name, model, self.streamed);
        self.timeline = Some(timeline);
    }

    /// What is told of it.
    pub fn timeline(&mut self) -> Option<&mut Timeline> {
        self.timeline.as_mut()
    }

    /// Why it ends as it does, where it is told of.
    pub fn because(&mut self, why: &'static str) {
        if let Some(timeline) = &mut self.timeline {
            timeline.because(why);
        }
    }

    /// Its route.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// It came with a key that may call its route.
    pub fn admitted(&mut self, admission: Admission) {
        if let Some(timeline) = &mut self.timeline {
            timeline.came_with(&admission.key().name);
        }
        self.admission = Some(admission);
    }

    /// Lets it go on counting as running after its record is closed.
    pub fn take_admission(&mut self) -> Option<Admission> {
        self.admission.take()
    }

    /// Whose call this is: its key's, or that of the credentials in its headers.
    pub fn owner(&self, headers: &HeaderMap) -> Owner {
        let admission = self.admission.as_ref();
        admission.map_or_else(|| Owner::of(headers), Admission::owner)
    }

    /// Who waits for a place, where places are short.
    pub fn claimant(&self) -> Claimant {
        let admission = self.admission.as_ref();
        let shares = admission.map(|admission| Claimant {
            id: admission.owner().number(),
            share: admission.key().share,
        });
        shares.unwrap_or_default()
    }

    /// The status of its answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// When its head was read.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Time that was spent on waiting for the caller's body.
    pub fn waited_for_caller(&mut self, time: Duration) {
        self.waited_for_caller += time;
    }

    /// Time from the first attempt's start to the answer that is passed on.
    pub fn waited_for_provider(&mut self, time: Duration) {
        self.waited_for_provider = time;
    }

    /// Time that was spent on waiting for the store of jobs.
    pub fn waited_for_store(&mut self, time: Duration) {
        self.waited_for_store += time;
    }

    /// The call may go on when its caller has left: then that is set.
    pub fn may_lose_its_caller(&mut self, orphaned: Arc<AtomicBool>) {
        self.orphaned = Some(orphaned);
    }

    /// It is one of a scope.
    pub fn is_of(&mut self, scope: CancellationToken) {
        if let Some(timeline) = &mut self.timeline {
            timeline.is_of(scope.clone());
        }
        self.scope = Some(scope);
    }

    /// The status of a call that was given up: its caller heard of it where its scope was cancelled.
    fn left_with(&self) -> u16 {
        let cancelled = self
            .scope
            .as_ref()
            .is_some_and(CancellationToken::is_cancelled);
        if cancelled {
            Code::ScopeCancelled.status().as_u16()
        } else {
            CALLER_LEFT
        }
    }

    /// A target that was asked, in case no other answers.
    pub fn tried(&mut self, target: Option<&Arc<Target>>) {
        self.target = target.cloned();
    }

    /// The call passed its deadline and goes on, which counts as `action`.
    pub fn went_over(&mut self, action: &'static str) {
        self.route.meter.exceeded(action);
        self.over = true;
    }

    /// The call missed its deadline, and its caller is let go. That counts as what follows, but where the
    /// caller itself asked for a job then.
    pub fn misses(&mut self, deadline: Deadline) {
        if deadline.reason != Reason::Requested {
            self.route.meter.exceeded(deadline.then.as_str());
        }
        self.lets_go(deadline.budget);
    }

    /// Its caller is let go for this budget's sake: how long it would have taken is not known.
    pub fn lets_go(&mut self, budget: Duration) {
        self.let_go = Some(budget);
    }

    /// It is not let go after all.
    pub fn goes_on(&mut self) {
        self.let_go = None;
    }

    /// Its stream takes longer than it may, or its tokens come too slowly; it is cut, or goes on. Counts
    /// once, though its first token was late as well.
    pub fn too_slow(&mut self, cut: bool) {
        if !self.over {
            self.went_over(if cut { "fail" } else { "observe" });
        }
    }

    /// Its stream is cut where its route's total budget is over.
    pub fn is_cut(&mut self) {
        self.too_slow(true);
        self.lets_go(self.route.budget.total.get());
    }

    /// Content is about to be passed on.
    pub fn passes_content(&mut self, now: Instant) {
        if self.first_token.is_none() {
            self.first_token = Some(now - self.arrived);
        }
    }

    /// The answer's head is about to be passed on: the gateway's own part is over, but for bytes
    /// that it hands through. Gives that part and the provider's.
    pub fn answers(&mut self, target: Option<Arc<Target>>, status: u16) -> (Duration, Duration) {
        self.answers_at(target, status, Instant::now())
    }

    /// The same where the time is known.
    pub fn answers_at(
        &mut self,
        target: Option<Arc<Target>>,
        status: u16,
        now: Instant,
    ) -> (Duration, Duration) {
        self.target = target.or(self.target.take());
        self.status = status;
        let theirs = self.waited_for_provider + self.waited_for_caller + self.waited_for_store;
        let own = (now - self.arrived).saturating_sub(theirs);
        self.route.meter.overhead.record(own);
        if let Some(timeline) = &mut self.timeline {
            timeline.answers(own);
        }
        (own, self.waited_for_provider)
    }

    /// The call is over since then.
    pub fn finish_at(mut self, outcome: Outcome, now: Instant) {
        self.comes_to(outcome);
        self.count(now);
    }

    /// The call is over.
    pub fn finish(mut self, outcome: Outcome) {
        self.comes_to(outcome);
    }

    fn comes_to(&mut self, outcome: Outcome) {
        self.outcome = Some(match outcome {
            Outcome::Served if self.over => Outcome::ObservedOver,
            outcome => outcome,
        });
    }

    /// Counts it, once.
    fn count(&mut self, ended: Instant) {
        self.counted = true;
        let meter = &self.route.meter;
        let age = ended - self.arrived;
        meter.total.record(age);
        let is_held = !self.streamed || self.route.over_budget.mid_stream == MidStream::Cut;
        if is_held {
            meter.held.record(age);
        }
        if self.streamed {
            meter.first_token.record(self.first_token.unwrap_or(age));
        }
        // How long it would have taken is not known of it, nor of one whose caller left.
        let left_at = self.outcome.is_none().then_some(age);
        if let Some(budget) = self.let_go.or(left_at) {
            if is_held {
                meter.lets_go(false, age, budget);
            }
            if self.streamed && self.first_token.is_none() {
                meter.lets_go(true, age, budget);
            }
        }
        let orphaned = self.orphaned.as_ref();
        let left = orphaned.is_some_and(|orphaned| orphaned.load(Ordering::Relaxed));
        let (status, outcome) = match self.outcome {
            Some(outcome) if !left => (self.status, outcome),
            _ => (self.left_with(), Outcome::Cancelled),
        };
        match &self.target {
            Some(target) => target.meter.count(status, outcome),
            None => meter.count(status, outcome),
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.ends(Ending {
                at: ended,
                status,
                outcome: outcome.as_str(),
                over: self.over,
                first_token: self.first_token,
                target: self.target.take(),
            });
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.counted {
            self.count(Instant::now());
        }
    }
}
