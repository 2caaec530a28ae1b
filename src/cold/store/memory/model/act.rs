//! What can happen next, and what comes of it.

use std::rc::Rc;

use super::{
    ATTEMPTS, Ask, CLOCK, Call, JOBS, LEASE, NOW, ROUTE, Reply, Sent, State, id, number, outcome,
};
use crate::cold::job::Status;
use crate::cold::runs::Runs;
use crate::cold::store::By;
use crate::cold::store::memory::rows::{Row, may_retry};

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
    /// It heard that a job may not be its own any more.
    Doubt(usize, usize),
    /// It looks that job up.
    Look(usize, usize),
    /// The store does what it was asked.
    Apply(usize),
    /// Its reply comes.
    Deliver(usize),
    /// No reply comes.
    Silence(usize),
    /// A request that nobody waits for is lost.
    Vanish(usize),
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

/// A row's part that writes change.
fn face(row: &Row) -> (Status, u64, u32, Option<u64>) {
    (row.job.status, row.job.fence, row.ends, row.holder)
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
                (None, true) => all.push(Action::Apply(at)),
                (None, false) => all.extend([Action::Apply(at), Action::Vanish(at)]),
                (Some(_), _) => all.push(Action::Deliver(at)),
            }
            if sent.waits && self.left.silences > 0 {
                all.push(Action::Silence(at));
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
        for at in 0..JOBS {
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

    fn runner_actions(&self, by: usize, all: &mut Vec<Action>) {
        let runner = &self.runners[by];
        if !runner.alive {
            all.push(Action::Restart(by));
            return;
        }
        if self.left.crashes > 0 {
            all.extend([Action::Crash(by), Action::Leave(by)]);
        }
        if !self.waits_for(by, |ask| *ask == Ask::Beat) {
            all.push(Action::Beat(by));
        }
        if !runner.begun {
            return;
        }
        // Claims and strays are asked for in turn.
        if !self.waits_for(by, |ask| matches!(ask, Ask::Claim | Ask::Strays(_))) {
            if runner.calls.len() < JOBS {
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
            if doubtful.contains(&id(job)) {
                if !self.waits_for(by, |ask| *ask == Ask::Look(job)) {
                    all.push(Action::Look(by, job));
                }
                continue;
            }
            let fence = runner.runs.fence(&id(job), &call.stop);
            let found = &self.row(job).job;
            if found.status.is_final() || Some(found.fence) != fence {
                all.push(Action::Doubt(by, job));
            }
        }
    }

    /// The next step of a run in which nothing fails any more.
    pub fn fair(&self) -> Option<Action> {
        let has = |action: Action| self.actions().contains(&action).then_some(action);
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
            if runner.alive && !runner.begun {
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
        let rows = || (0..JOBS).map(|job| self.row(job));
        if rows().any(|row| row.job.status == Status::Queued) {
            return has(Action::Claim(by));
        }
        // Whoever held it is gone: found by the next renewal.
        let gone = |row: &Row| row.holder.is_some_and(dead);
        rows().any(gone).then_some(Action::Beat(by))
    }

    /// What comes of a step.
    pub fn act(&self, action: &Action) -> Result<Self, String> {
        let mut next = self.clone();
        match *action {
            Action::Claim(by) => next.send(by, Ask::Claim),
            Action::Beat(by) => next.send(by, Ask::Beat),
            Action::Strays(by) => {
                let mut held: Vec<_> = self.runners[by].runs.all().iter().map(number).collect();
                held.sort_unstable();
                next.send(by, Ask::Strays(held));
            }
            Action::Answer(by, job, ok) => next.answer(by, job, ok),
            Action::Doubt(by, job) => {
                next.runners[by].runs.doubt(&id(job));
            }
            Action::Look(by, job) => next.send(by, Ask::Look(job)),
            Action::Apply(at) => next.apply(at)?,
            Action::Deliver(at) => {
                let sent = next.wire.remove(at);
                next.deliver(sent);
            }
            Action::Silence(at) => next.silence(at),
            Action::Vanish(at) => {
                next.wire.remove(at);
            }
            Action::Crash(by) => next.dies(by),
            Action::Leave(by) => {
                next.dies(by);
                let gateway = self.runners[by].id;
                Rc::make_mut(&mut next.rows).leave(gateway, NOW);
            }
            Action::Restart(by) => {
                let runner = &mut next.runners[by];
                (runner.id, runner.alive) = (next.next, true);
                next.next += 1;
            }
            Action::Expire(gateway) => {
                let alive = next
                    .runners
                    .iter()
                    .any(|one| one.id == gateway && one.alive);
                next.left.expiries -= u8::from(alive);
                let rows = Rc::make_mut(&mut next.rows);
                rows.leases.insert(gateway, Some(CLOCK / 2));
            }
            Action::Cancel(job) => {
                next.left.cancels -= 1;
                let rows = Rc::make_mut(&mut next.rows);
                rows.finish(&id(job), By::Order, outcome(Status::Cancelled, 0), NOW);
            }
            Action::Retry(job) => {
                next.left.retries -= 1;
                Rc::make_mut(&mut next.rows).retry(&id(job), NOW, NOW);
            }
        }
        next.tidy();
        Ok(next)
    }

    /// Brings equal states to one form: what is stopped ends at once, and nobody reads histories.
    fn tidy(&mut self) {
        for by in 0..self.runners.len() {
            let runner = &mut self.runners[by];
            let runs = &runner.runs;
            runner
                .calls
                .retain(|call| runs.fence(&id(call.job), &call.stop).is_some());
            runner.calls.sort_by_key(|call| call.job);
            let calls = &runner.calls;
            for sent in self.wire.iter_mut().filter(|sent| sent.by == by) {
                if let Ask::End(job, ..) | Ask::Release(job, _) | Ask::Look(job) = sent.ask {
                    sent.waits &= calls.iter().any(|call| call.job == job);
                }
            }
        }
        self.wire.retain(|sent| sent.waits || sent.reply.is_none());
        self.wire.sort_by_cached_key(Sent::key);
        if !self.rows.news.is_empty() {
            let rows = Rc::make_mut(&mut self.rows);
            rows.news.clear();
            for row in rows.all.values_mut() {
                row.history.clear();
            }
        }
    }

    fn send(&mut self, by: usize, ask: Ask) {
        let gateway = self.runners[by].id;
        self.wire.push(Sent {
            by,
            gateway,
            ask,
            waits: true,
            reply: None,
        });
    }

    fn answer(&mut self, by: usize, job: usize, ok: bool) {
        let ends = ok || self.row(job).job.attempts >= ATTEMPTS;
        self.left.failures -= u8::from(!ok);
        let calls = &mut self.runners[by].calls;
        if let Some(call) = calls.iter_mut().find(|call| call.job == job) {
            call.writes = Some(ends.then_some(ok));
        }
        self.write(by, job);
    }

    /// Writes the last of a run under the fence that it has now.
    fn write(&mut self, by: usize, job: usize) {
        let runner = &self.runners[by];
        let call = runner.calls.iter().find(|call| call.job == job);
        let Some((call, writes)) = call.and_then(|call| Some((call, call.writes?))) else {
            return;
        };
        let Some(fence) = runner.runs.fence(&id(job), &call.stop) else {
            return;
        };
        self.send(
            by,
            match writes {
                Some(ok) => Ask::End(job, fence, ok),
                None => Ask::Release(job, fence),
            },
        );
    }

    /// The store does what it was asked; the promises are checked.
    fn apply(&mut self, at: usize) -> Result<(), String> {
        let mut sent = self.wire.remove(at);
        let before: Vec<Row> = self.rows.all.values().cloned().collect();
        let rows = Rc::make_mut(&mut self.rows);
        let reply = match sent.ask {
            Ask::Claim => {
                let claimed = rows.claim(sent.gateway, ROUTE, 1, NOW);
                let each = claimed
                    .iter()
                    .map(|one| (number(&one.job.id), one.job.fence));
                Reply::Claimed(each.collect())
            }
            Ask::Beat => Reply::Beat(rows.beat(sent.gateway, (LEASE, CLOCK), NOW).lost),
            Ask::Strays(ref held) => {
                let held: Vec<_> = held.iter().copied().map(id).collect();
                rows.strays(sent.gateway, &held, NOW);
                Reply::Done
            }
            Ask::End(job, fence, ok) => {
                let status = if ok {
                    Status::Succeeded
                } else {
                    Status::Failed
                };
                rows.finish(&id(job), By::Run(fence), outcome(status, fence), NOW);
                Reply::Done
            }
            Ask::Release(job, fence) => {
                rows.release(&id(job), fence, NOW, true);
                Reply::Done
            }
            Ask::Look(job) => Reply::Seen(Box::new(rows.all[&(job as u64)].job.clone())),
        };
        for (was, is) in before.iter().zip(rows.all.values()) {
            if was.job.status.is_final() && (face(was), &was.answer) != (face(is), &is.answer) {
                return Err(format!("a final state changed: {was:?} to {is:?}"));
            }
            if is.ends > 1 {
                return Err("two results stand".into());
            }
        }
        if let Ask::End(job, fence, _) | Ask::Release(job, fence) = sent.ask {
            let (was, is) = (&before[job], &rows.all[&(job as u64)]);
            if was.job.fence != fence && face(was) != face(is) {
                return Err(format!("an old fence wrote: {fence}, {was:?} to {is:?}"));
            }
        }
        sent.reply = Some(reply);
        self.wire.push(sent);
        Ok(())
    }

    fn deliver(&mut self, sent: Sent) {
        let by = sent.by;
        let runner = &mut self.runners[by];
        match (&sent.ask, &sent.reply) {
            (Ask::Claim, Some(Reply::Claimed(jobs))) => {
                for (job, fence) in jobs {
                    let Some(stop) = runner.runs.enter(&id(*job), *fence) else {
                        continue;
                    };
                    runner.calls.retain(|call| call.job != *job);
                    runner.calls.push(Call {
                        job: *job,
                        stop,
                        writes: None,
                    });
                }
            }
            (Ask::Beat, Some(Reply::Beat(lost))) => {
                runner.begun = true;
                if *lost {
                    runner.runs.doubt_all();
                }
            }
            (Ask::Strays(_), _) => {
                // Asked for as long as a claim may still be on its way.
                let late = |sent: &Sent| sent.gateway == runner.id && sent.ask == Ask::Claim;
                runner.strays = self.wire.iter().any(late);
            }
            (Ask::End(job, fence, _) | Ask::Release(job, fence), _) => {
                let job = *job;
                let call = runner.calls.iter().find(|call| call.job == job);
                let Some(call) = call else { return };
                if !runner.runs.leave(&id(job), &call.stop, *fence) {
                    self.write(by, job);
                }
            }
            (Ask::Look(_), Some(Reply::Seen(job))) => runner.runs.judge(job),
            _ => {}
        }
    }

    fn silence(&mut self, at: usize) {
        self.left.silences -= 1;
        self.wire[at].waits = false;
        let Sent { by, ref ask, .. } = self.wire[at];
        match *ask {
            Ask::Claim => self.runners[by].strays = true,
            Ask::End(job, ..) | Ask::Release(job, _) => self.write(by, job),
            _ => {}
        }
    }

    fn dies(&mut self, by: usize) {
        self.left.crashes -= 1;
        let runner = &mut self.runners[by];
        (runner.alive, runner.begun, runner.strays) = (false, false, false);
        runner.runs = Runs::default();
        runner.calls.clear();
        for sent in self.wire.iter_mut().filter(|sent| sent.by == by) {
            sent.waits = false;
        }
    }
}
