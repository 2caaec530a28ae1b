//! What can happen next.

use std::time::Duration;

use super::{Ask, CLOCK, Sent, State, id};
use crate::cold::job::Status;
use crate::cold::store::memory::rows::{GatewayId, Row, may_retry};

/// A step. Numbers are those of gateways, jobs and of requests on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A gateway asks for a due job.
    Claim(usize),
    /// It renews its lease.
    Beat(usize),
    /// It gives back what it does not know of.
    Strays(usize),
    /// The provider answered, or failed.
    Answer(usize, usize, bool),
    /// It looks up a job that may not be its own any more.
    Look(usize, usize),
    /// The store does what it was asked.
    Apply(usize),
    /// Its reply comes.
    Deliver(usize),
    /// No reply comes; the request may be lost, too.
    Silence(usize, bool),
    /// A gateway dies.
    Crash(usize),
    /// It leaves in good order.
    Leave(usize),
    /// Another starts in its place.
    Restart(usize),
    /// The time of a lease is over.
    Expire(u64),
    /// A caller cancels its job.
    Cancel(usize),
    /// An operator begins it anew.
    Retry(usize),
}

impl State {
    fn waits_for(&self, by: usize, wanted: impl Fn(&Ask) -> bool) -> bool {
        let ours = |sent: &&Sent| sent.by == by && sent.waits && wanted(&sent.ask);
        self.wire.iter().any(|sent| ours(&sent))
    }

    /// Everything that can happen.
    pub fn actions(&self) -> Vec<Action> {
        let mut all = Vec::new();
        for (at, sent) in self.wire.iter().enumerate() {
            match (&sent.reply, sent.waits) {
                (None, _) => all.push(Action::Apply(at)),
                (Some(_), _) => all.push(Action::Deliver(at)),
            }
            if sent.waits && self.left.silences > 0 {
                all.extend([Action::Silence(at, false), Action::Silence(at, true)]);
            }
        }
        for by in 0..self.runners.len() {
            self.runner_actions(by, &mut all);
        }
        for (gateway, end) in &self.rows.leases {
            let alive = self
                .runners
                .iter()
                .any(|one| one.id == *gateway && one.alive);
            let valid = end.is_some_and(|end| end > CLOCK);
            if valid && (!alive || self.left.expiries > 0) {
                all.push(Action::Expire(*gateway));
            }
        }
        for at in 0..self.jobs() {
            let job = &self.row(at).job;
            if self.left.cancels > 0 && !job.status.is_final() {
                all.push(Action::Cancel(at));
            }
            if self.left.retries > 0 && may_retry(job) {
                all.push(Action::Retry(at));
            }
        }
        all
    }

    /// Whether a gateway's lease lasts. Its own clock knows of the end no later than the store.
    fn holds(&self, gateway: GatewayId) -> bool {
        let end = self.rows.leases.get(&gateway).copied().flatten();
        end.is_some_and(|end| end > CLOCK)
    }

    /// Whether a beat would find anything: one that finds nothing changes nothing.
    fn beats(&self, by: usize) -> bool {
        let runner = &self.runners[by];
        let ended = |end: &Option<Duration>| end.is_none_or(|end| end <= CLOCK);
        let held = |gateway: &GatewayId| {
            let holds = |job| self.row(job).holder == Some(*gateway);
            (0..self.jobs()).any(holds)
        };
        let leases = &self.rows.leases;
        !runner.begun
            || !self.holds(runner.id)
            || leases
                .iter()
                .any(|(gateway, end)| ended(end) && held(gateway))
            || (0..self.jobs()).any(|job| {
                self.row(job)
                    .holder
                    .is_some_and(|by| !leases.contains_key(&by))
            })
    }

    fn runner_actions(&self, by: usize, all: &mut Vec<Action>) {
        let runner = &self.runners[by];
        if !runner.alive {
            all.push(Action::Restart(by));
            return;
        }
        if self.left.crashes > 0 {
            all.extend([Action::Crash(by), Action::Leave(by)]);
        }
        if self.beats(by) && !self.waits_for(by, |ask| *ask == Ask::Beat) {
            all.push(Action::Beat(by));
        }
        if !runner.begun {
            return;
        }
        // Claims and strays are asked for in turn.
        if !self.waits_for(by, |ask| matches!(ask, Ask::Claim | Ask::Strays(..))) {
            let queued = |job| self.row(job).job.status == Status::Queued;
            let free = runner.calls.len() < self.jobs() + usize::from(self.left.spare);
            if free && self.holds(runner.id) && (0..self.jobs()).any(queued) {
                all.push(Action::Claim(by));
            }
            if runner.strays {
                all.push(Action::Strays(by));
            }
        }
        let doubtful = runner.runs.doubtful();
        for call in &runner.calls {
            let job = call.job;
            if call.writes.is_none() {
                all.push(Action::Answer(by, job, true));
                if self.left.failures > 0 {
                    all.push(Action::Answer(by, job, false));
                }
            }
            // News came, or its lease had been lost.
            let fence = runner.runs.fence(&id(job), &call.stop);
            let found = &self.row(job).job;
            let news = found.status.is_final() || Some(found.fence) != fence;
            let asked = self.waits_for(by, |ask| *ask == Ask::Look(job));
            if !asked && (news || doubtful.contains(&id(job))) {
                all.push(Action::Look(by, job));
            }
        }
    }

    /// The next step of a run in which nothing fails any more.
    pub fn fair(&self, actions: &[Action]) -> Option<Action> {
        let has = |action: Action| actions.contains(&action).then_some(action);
        if let Some(sent) = self.wire.first() {
            return Some(if sent.reply.is_some() {
                Action::Deliver(0)
            } else {
                Action::Apply(0)
            });
        }
        let dead = |gateway: u64| {
            !self
                .runners
                .iter()
                .any(|one| one.id == gateway && one.alive)
        };
        for (gateway, end) in &self.rows.leases {
            if dead(*gateway) && end.is_some_and(|end| end > CLOCK) {
                return Some(Action::Expire(*gateway));
            }
        }
        let Some(by) = self.runners.iter().position(|one| one.alive) else {
            return Some(Action::Restart(0));
        };
        for (by, runner) in self.runners.iter().enumerate() {
            if runner.alive && !(runner.begun && self.holds(runner.id)) {
                return Some(Action::Beat(by));
            }
            for call in &runner.calls {
                if let Some(action) = has(Action::Answer(by, call.job, true)) {
                    return Some(action);
                }
            }
            if runner.strays
                && let Some(action) = has(Action::Strays(by))
            {
                return Some(action);
            }
        }
        let rows = || (0..self.jobs()).map(|job| self.row(job));
        if rows().any(|row| row.job.status == Status::Queued) {
            return has(Action::Claim(by));
        }
        // Whoever held it is gone: found by the next renewal.
        let gone = |row: &Row| row.holder.is_some_and(dead);
        rows().any(gone).then_some(Action::Beat(by))
    }
}
