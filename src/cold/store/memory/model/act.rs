//! What comes of a step; the promises are checked where the store does what it was asked.

use std::rc::Rc;

use super::steps::Action;
use super::{
    ATTEMPTS, Ask, CLOCK, Call, LEASE, Last, NOW, ROUTE, Reply, Runner, Sent, State, id, number,
    outcome,
};
use crate::cold::job::Status;
use crate::cold::runs::Runs;
use crate::cold::store::By;
use crate::cold::store::memory::rows::{GatewayId, Row};

/// A row's part that writes change: with the answer's run.
type Face = (Status, u64, u32, Option<GatewayId>, u8);

fn face(row: &Row) -> Face {
    let answer = row.answer.as_ref().map_or(0, |answer| answer.body[7]);
    (row.job.status, row.job.fence, row.ends, row.holder, answer)
}

impl State {
    /// What comes of a step.
    pub fn act(&self, action: &Action) -> Result<Self, String> {
        let mut next = self.clone();
        match *action {
            Action::Claim(by) => next.send(by, Ask::Claim),
            Action::Beat(by) => next.send(by, Ask::Beat),
            Action::Strays(by) => {
                let held = self.runners[by].runs.all();
                let mut held: Vec<_> = held
                    .iter()
                    .map(|(id, fence)| (number(id), *fence))
                    .collect();
                held.sort_unstable();
                // Asked for as long as a claim may still be on its way.
                let gateway = self.runners[by].id;
                let late = |sent: &Sent| sent.gateway == gateway && sent.ask == Ask::Claim;
                next.send(by, Ask::Strays(held, !self.wire.iter().any(late)));
            }
            Action::Answer(by, job, ok) => next.answer(by, job, ok),
            Action::Look(by, job) => {
                next.runner(by).runs.doubt(&id(job));
                next.send(by, Ask::Look(job));
            }
            Action::Apply(at) => next.apply(at)?,
            Action::Deliver(at) => {
                let sent = next.wire.remove(at);
                next.deliver(&sent);
            }
            Action::Silence(at, lost) => next.silence(at, lost),
            Action::Crash(by) => next.dies(by),
            Action::Leave(by) => {
                next.dies(by);
                let gateway = self.runners[by].id;
                Rc::make_mut(&mut next.rows).leave(gateway, NOW);
            }
            Action::Restart(by) => {
                let id = next.next;
                let runner = next.runner(by);
                (runner.id, runner.alive) = (id, true);
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
            let lives = |runner: &Runner, call: &Call| {
                let fence = runner.runs.fence(&id(call.job), &call.stop);
                fence.is_some()
            };
            let runner = &self.runners[by];
            if !runner.calls.iter().all(|call| lives(runner, call)) {
                let before = self.runners[by].clone();
                let calls = &mut self.runner(by).calls;
                calls.retain(|call| lives(&before, call));
            }
            let calls = &self.runners[by].calls;
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

    fn runner(&mut self, by: usize) -> &mut Runner {
        Rc::make_mut(&mut self.runners[by])
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
        let calls = &mut self.runner(by).calls;
        if let Some(call) = calls.iter_mut().find(|call| call.job == job) {
            call.writes = Some(if ends { Last::End(ok) } else { Last::Release });
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
                Last::End(ok) => Ask::End(job, fence, ok),
                Last::Release => Ask::Release(job, fence),
            },
        );
    }

    /// The store does what it was asked; the promises are checked.
    fn apply(&mut self, at: usize) -> Result<(), String> {
        let mut sent = self.wire.remove(at);
        let before: Vec<Face> = self.rows.all.values().map(face).collect();
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
            Ask::Strays(ref held, _) => {
                let held: Vec<_> = held.iter().map(|(job, fence)| (id(*job), *fence)).collect();
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
            if was.0.is_final() && *was != face(is) {
                return Err(format!("a final state changed: {was:?} to {is:?}"));
            }
            if is.ends > 1 {
                return Err("two results stand".into());
            }
        }
        if let Ask::End(job, fence, _) | Ask::Release(job, fence) = sent.ask {
            let (was, is) = (before[job], face(&rows.all[&(job as u64)]));
            if was.1 != fence && was != is {
                return Err(format!("an old fence wrote: {fence}, {was:?} to {is:?}"));
            }
        }
        sent.reply = Some(reply);
        if self.prompt && sent.waits {
            self.deliver(&sent);
        } else {
            self.wire.push(sent);
        }
        Ok(())
    }

    fn deliver(&mut self, sent: &Sent) {
        let by = sent.by;
        let runner = self.runner(by);
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
                    runner.calls.sort_by_key(|call| call.job);
                }
            }
            (Ask::Beat, Some(Reply::Beat(lost))) => {
                runner.begun = true;
                if *lost {
                    runner.runs.doubt_all();
                }
            }
            (Ask::Strays(_, last), _) => runner.strays = !last,
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

    fn silence(&mut self, at: usize, lost: bool) {
        self.left.silences -= 1;
        let mut sent = self.wire.remove(at);
        match sent.ask {
            Ask::Claim => self.runner(sent.by).strays = true,
            Ask::End(job, ..) | Ask::Release(job, _) => self.write(sent.by, job),
            _ => {}
        }
        if !lost {
            sent.waits = false;
            self.wire.push(sent);
        }
    }

    fn dies(&mut self, by: usize) {
        self.left.crashes -= 1;
        let runner = self.runner(by);
        (runner.alive, runner.begun, runner.strays) = (false, false, false);
        runner.runs = Runs::default();
        runner.calls.clear();
        for sent in self.wire.iter_mut().filter(|sent| sent.by == by) {
            sent.waits = false;
        }
    }
}
