//! Starts a call's attempts and picks the first answer.
//!
//! A second attempt starts after the route's delay (Dean and Barroso, CACM 2013) if the bucket
//! allows it; the first with content wins and the others are cancelled at once. After a failure
//! another attempt starts, within the deadline and the retry budget. Promises: dropping the race
//! cancels every attempt; at the deadline the running attempts are given back, still running.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::record::Record;
use super::route::Route;
use crate::upstream::attempt::{Attempt, Broken, Hold, Start, Verdict};
use crate::upstream::attempts::{Attempts, Entry};
use crate::upstream::body::OutBody;
use crate::upstream::target::{Call, Target};

/// How a race ended.
pub enum Finish {
    /// An answer to pass on.
    Answer(Box<Attempt>),
    /// The deadline came first.
    Deadline,
    /// The provider wants the call later than its caller waits, and it may become a job.
    Later,
    /// No attempt got an answer.
    Broken(Broken),
}

/// What a race may do.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Which worker's connections are used.
    pub worker: usize,
    /// When the call must be answered; `None`: it may take its time.
    pub deadline: Option<Instant>,
    /// How much is read before an answer wins.
    pub hold: Hold,
    /// The call may be sent twice.
    pub safe: bool,
    /// The call may be sent again after a failure.
    pub retry: bool,
    /// The call may become a job.
    pub job: bool,
}

/// A race of one call's attempts.
pub struct Race<'a> {
    route: &'a Arc<Route>,
    call: &'a Call,
    rules: Rules,
    /// A body that is not kept, for the only attempt.
    body: Option<OutBody>,
    attempts: &'a mut Attempts,
    began: Instant,
    hedge_at: Option<Instant>,
    retry_at: Option<Instant>,
    retries: u32,
}

enum Event {
    Judged(Entry, Verdict),
    Timer,
}

/// Longest wait before the same target is tried again, where it does not say when.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest wait for a provider that says when, where no deadline bounds it.
const LONGEST_REST: Duration = Duration::from_secs(10);

impl<'a> Race<'a> {
    /// A race that has not begun. `attempts` keeps what runs, so that it outlives the race.
    pub fn new(
        route: &'a Arc<Route>,
        call: &'a Call,
        body: Option<OutBody>,
        attempts: &'a mut Attempts,
        rules: Rules,
    ) -> Self {
        Self {
            route,
            call,
            rules,
            body,
            attempts,
            began: Instant::now(),
            hedge_at: None,
            retry_at: None,
            retries: route.retries.max,
        }
    }

    /// Starts the first attempt.
    pub fn begin(&mut self) {
        let route = self.route;
        let target = route.targets.first(self.began).clone();
        route.hedges.earn();
        target.provider.retries.earn();
        self.launch(target, false, self.began);
        self.hedge_at = self.next_hedge(self.began);
    }

    /// The deadline passed and is only observed: the race goes on without one.
    pub fn go_on(&mut self) {
        self.rules.deadline = None;
    }

    /// Runs it until it ends or its deadline passes.
    pub async fn run(&mut self, record: &mut Record) -> Finish {
        let finish = loop {
            let event = self.next().await;
            let finish = match event {
                Event::Judged(entry, verdict) => self.judge(entry, verdict),
                Event::Timer => self.timer(),
            };
            if let Some(finish) = finish {
                break finish;
            }
        };
        record.waited_for_provider(self.began.elapsed());
        finish
    }

    /// Waits for a verdict or the nearest timer; a verdict that is there goes first.
    async fn next(&mut self) -> Event {
        let due = [self.rules.deadline, self.hedge_at, self.retry_at];
        let due = due.into_iter().flatten().min();
        let (attempts, hold) = (&mut *self.attempts, self.rules.hold);
        let judged = poll_fn(|context| attempts.poll(context, hold));
        match due {
            None => {
                let (entry, verdict) = judged.await;
                Event::Judged(entry, verdict)
            }
            Some(due) => tokio::select! {
                biased;
                (entry, verdict) = judged => Event::Judged(entry, verdict),
                () = sleep_until(due) => Event::Timer,
            },
        }
    }

    fn launch(&mut self, target: Arc<Target>, hedge: bool, now: Instant) {
        let first = self.attempts.made() == 0;
        let line = self.route.line(self.call.streamed);
        let basis = if hedge {
            Some(line.second.clone())
        } else {
            first.then(|| line.first.clone())
        };
        let mut request = target.request(self.call, self.body.take());
        *request.uri_mut() = self.call.path.clone().into();
        let attempt = Attempt::start(Start {
            request,
            target,
            now,
            worker: self.rules.worker,
            connect: self.route.budget.connect.get(),
            streamed: self.call.streamed,
            basis,
        });
        self.attempts.push(attempt, hedge);
    }

    /// A target for a further attempt.
    fn another(&self, now: Instant) -> Arc<Target> {
        let targets = &self.route.targets;
        targets.another(self.attempts.tried(), now).clone()
    }

    fn next_hedge(&self, from: Instant) -> Option<Instant> {
        let most = self.route.hedge.max_attempts as usize;
        if !self.rules.safe || self.attempts.running() >= most {
            return None;
        }
        let rule = self.route.line(self.call.streamed).rule()?;
        let chosen = rule.share >= 1.0 || rand::random::<f64>() < rule.share;
        chosen.then(|| from + rule.delay)
    }

    fn timer(&mut self) -> Option<Finish> {
        let now = Instant::now();
        if self.rules.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(Finish::Deadline);
        }
        if self.hedge_at.is_some_and(|at| now >= at) {
            self.hedge_at = None;
            if self.route.hedges.try_spend() {
                let target = self.another(now);
                self.launch(target, true, now);
                self.hedge_at = self.next_hedge(now);
            } else {
                self.route.meter.hedges_denied.increment(1);
            }
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            let target = self.another(now);
            self.launch(target, false, now);
        }
        None
    }

    fn judge(&mut self, entry: Entry, verdict: Verdict) -> Option<Finish> {
        let meter = &self.route.meter;
        let (reason, rest) = match &verdict {
            Verdict::Answer => {
                if entry.hedge {
                    meter.hedges_won.increment(1);
                }
                let lost = self.attempts.cancel_losers();
                meter.hedges_lost.increment(lost as u64);
                return Some(Finish::Answer(entry.attempt));
            }
            Verdict::Refused(status, rest) => (refusal(*status), *rest),
            Verdict::Broken(broken) => (broken.reason(), None),
        };
        if entry.hedge {
            meter.hedges_failed.increment(1);
        }
        // Another attempt still runs: its answer may be better.
        if self.attempts.running() > 0 {
            return None;
        }
        if self.retries(reason, rest, entry.attempt.target()) {
            meter.retried(reason);
            return None;
        }
        // The provider says when, and that is too late for this caller: not for a job.
        if rest.is_some() && self.rules.job {
            return Some(Finish::Later);
        }
        if let Verdict::Broken(broken) = verdict {
            return Some(Finish::Broken(broken));
        }
        // It is passed on, once as much of it was read as of any answer.
        self.attempts.put_back(entry);
        None
    }

    /// Sends the call again if that may help, now or when the provider wants it.
    fn retries(&mut self, reason: &str, rest: Option<Duration>, failed: &Arc<Target>) -> bool {
        // Nothing of the call may have been done, or it is safe twice.
        let certain = reason != "reset" && reason != "request";
        let allowed = self.rules.retry && (certain || self.rules.safe) && reason != "request";
        if !allowed || self.retries == 0 {
            return false;
        }
        let now = Instant::now();
        if let Some(target) = self.route.targets.untried(self.attempts.tried(), now) {
            if !target.provider.retries.try_spend() {
                // It may have been picked to be probed: that place is free again.
                target.health.given_up();
                return false;
            }
            self.retries -= 1;
            self.launch(target.clone(), false, now);
            return true;
        }
        // The same target again: full jitter, so that callers do not return together.
        let jitter = PAUSE.mul_f64(rand::random::<f64>());
        let at = now + rest.map_or(jitter, |rest| rest + jitter);
        let latest = self.rules.deadline.unwrap_or(now + LONGEST_REST);
        if at >= latest || !failed.provider.retries.try_spend() {
            return false;
        }
        self.retries -= 1;
        self.retry_at = Some(at);
        true
    }
}

/// The label of a status that is tried again.
fn refusal(status: u16) -> &'static str {
    match status {
        408 => "408",
        409 => "409",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        529 => "529",
        _ => "status",
    }
}
