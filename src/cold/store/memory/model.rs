//! The lease protocol, explored: every interleaving of two gateways and two jobs within bounds.
//!
//! The store is `Rows` itself, a gateway's knowledge is `cold::runs` itself; modelled are the wire
//! (a request may be applied late, its reply lost) and what a runner does next. Every state is
//! checked: a final state stands, one result a job, who has an old fence writes nothing; and from each
//! one a run without further faults ends every job (`fair`), so that none is lost.
//!
//! A checker of its own, not `stateright`: the rows have names and bytes in them that are no part of
//! a state, and that crate's liveness check is only right on acyclic paths, by its own words.

mod act;
mod explore;
mod steps;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use self::explore::{Found, explore};
use super::rows::{GatewayId, Row, Rows};
use crate::cold::job::{
    Job, JobId, Owner, Reason, Status, StoredAnswer, StoredRequest, UnixMillis,
};
use crate::cold::priority::Priority;
use crate::cold::runs::{Runs, Stop};
use crate::cold::store::Outcome;

/// The wall clock and the store's stand still; that time passes is a step of its own.
const NOW: UnixMillis = UnixMillis(0);
const CLOCK: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(1);
const ROUTE: &str = "r";
/// A run that fails the second time ends its job.
const ATTEMPTS: u32 = 2;

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap()
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Faults {
    /// Gateways that die, or leave.
    crashes: u8,
    /// Leases of living gateways that end unrenewed.
    expiries: u8,
    /// Requests whose reply does not come; they may be applied all the same, at any time.
    silences: u8,
    /// Attempts that fail.
    failures: u8,
    /// Jobs that their callers cancel.
    cancels: u8,
    /// Jobs that an operator begins anew.
    retries: u8,
    /// Slots that a runner has beyond one a job: it may claim what it runs already.
    spare: u8,
}

/// What is asked of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    Claim,
    Beat,
    /// What is held; whether no claim is on its way any more.
    Strays(Vec<(usize, u64)>, bool),
    End(usize, u64, bool),
    Release(usize, u64),
    Look(usize),
}

/// What it replied.
#[derive(Clone, Debug)]
enum Reply {
    Claimed(Vec<(usize, u64)>),
    Beat(bool),
    Done,
    Seen(Box<Job>),
}

/// A request on its way, or its reply on its way back.
#[derive(Clone, Debug)]
struct Sent {
    by: usize,
    gateway: GatewayId,
    ask: Ask,
    /// Somebody waits for the reply.
    waits: bool,
    reply: Option<Reply>,
}

/// What a run writes last.
#[derive(Clone, Copy)]
enum Last {
    /// The job's end: whether it succeeded.
    End(bool),
    Release,
}

/// A provider call of a run, and what its gateway is about to write of it.
#[derive(Clone)]
struct Call {
    job: usize,
    stop: Stop,
    writes: Option<Last>,
}

#[derive(Clone)]
struct Runner {
    id: GatewayId,
    alive: bool,
    /// Its first beat was answered.
    begun: bool,
    runs: Runs,
    calls: Vec<Call>,
    /// A claim's reply was lost: what it took is not known here.
    strays: bool,
}

#[derive(Clone)]
struct State {
    rows: Rc<Rows>,
    runners: [Rc<Runner>; 2],
    wire: Vec<Sent>,
    left: Faults,
    next: GatewayId,
    /// Replies come at once: so two jobs are explored where one is with all delays.
    prompt: bool,
}

fn id(job: usize) -> JobId {
    JobId::parse(&format!("job_{job:032x}")).unwrap()
}

fn number(id: &JobId) -> usize {
    usize::from_str_radix(&id.as_str()[4..], 16).unwrap()
}

fn job(at: usize, status: Status) -> Job {
    let running = u8::from(status == Status::Running);
    Job {
        id: id(at),
        owner: Owner::ANYONE,
        status,
        route: ROUTE.into(),
        reason: Reason::Requested,
        budget_ms: 0,
        elapsed_ms: 0,
        created_at: NOW,
        expires_at: NOW,
        finished_at: None,
        attempts: running.into(),
        fence: running.into(),
        error: None,
        priority: Priority::default(),
        callback: None,
        scope: None,
        background: None,
    }
}

fn request() -> StoredRequest {
    StoredRequest {
        method: String::new(),
        path_and_query: String::new(),
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

/// An end whose answer names the run that gave it.
fn outcome(status: Status, fence: u64) -> Outcome {
    let body = Bytes::copy_from_slice(&fence.to_be_bytes());
    let answer = (status == Status::Succeeded).then(|| StoredAnswer {
        status: 200,
        headers: Vec::new(),
        body,
    });
    Outcome {
        status,
        answer,
        error: None,
    }
}

impl State {
    /// Two gateways that live; one runs a call that was handed over, the other job waits.
    fn first(jobs: usize, left: Faults, unfenced: bool) -> Self {
        let mut rows = Rows::default();
        rows.unfenced = unfenced;
        let runner = |id| Runner {
            id,
            alive: true,
            begun: true,
            runs: Runs::default(),
            calls: Vec::new(),
            strays: false,
        };
        let mut runners = [runner(1), runner(2)];
        for one in &runners {
            rows.beat(one.id, (LEASE, CLOCK), NOW);
        }
        rows.insert(1, job(0, Status::Running), request());
        for at in 1..jobs {
            rows.insert(1, job(at, Status::Queued), request());
        }
        rows.news.clear();
        let stop = runners[0].runs.enter(&id(0), 1).unwrap();
        runners[0].calls.push(Call {
            job: 0,
            stop,
            writes: None,
        });
        Self {
            rows: Rc::new(rows),
            runners: runners.map(Rc::new),
            wire: Vec::new(),
            left,
            next: 3,
            prompt: jobs > 1 && left.silences == 0,
        }
    }

    fn row(&self, job: usize) -> &Row {
        &self.rows.all[&(job as u64)]
    }

    fn jobs(&self) -> usize {
        self.rows.all.len()
    }

    fn is_over(&self) -> bool {
        (0..self.jobs()).all(|job| self.row(job).job.status.is_final())
    }

    /// All that decides what can come of this state.
    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(96);
        let byte = |number: u64| u8::try_from(number).unwrap();
        for row in self.rows.all.values() {
            let answer = row.answer.as_ref().map_or(0, |answer| answer.body[7]);
            let holder = byte(row.holder.unwrap_or(0));
            let (status, fence) = (row.job.status as u8, byte(row.job.fence));
            let (attempts, ends) = (byte(row.job.attempts.into()), byte(row.ends.into()));
            key.extend([status, fence, attempts, ends, holder, answer]);
        }
        for (gateway, end) in &self.rows.leases {
            let end = end.map_or(0, |end| 1 + u8::from(end > CLOCK));
            key.extend([byte(*gateway), end]);
        }
        for runner in &self.runners {
            let flags = u8::from(runner.alive) | u8::from(runner.begun) << 1;
            key.extend([255, byte(runner.id), flags | u8::from(runner.strays) << 2]);
            let doubtful = runner.runs.doubtful();
            for call in &runner.calls {
                let fence = runner.runs.fence(&id(call.job), &call.stop).unwrap_or(0);
                let writes = match call.writes {
                    None => 0,
                    Some(Last::Release) => 1,
                    Some(Last::End(ok)) => 2 + u8::from(ok),
                };
                let doubtful = u8::from(doubtful.contains(&id(call.job)));
                key.extend([small(call.job), byte(fence), writes << 1 | doubtful]);
            }
        }
        for sent in &self.wire {
            key.push(254);
            key.extend(sent.key());
        }
        let left = self.left;
        key.extend([left.crashes, left.expiries, left.silences]);
        key.extend([left.failures, left.cancels, left.retries]);
        key
    }
}

impl Sent {
    fn key(&self) -> Vec<u8> {
        let byte = |number: u64| u8::try_from(number).unwrap();
        let mut key = vec![byte(self.gateway), u8::from(self.waits)];
        match &self.ask {
            Ask::Claim => key.push(1),
            Ask::Beat => key.push(2),
            Ask::Strays(held, last) => {
                key.extend([8 + u8::from(*last), small(held.len())]);
                key.extend(
                    held.iter()
                        .flat_map(|(at, fence)| [small(*at), byte(*fence)]),
                );
            }
            Ask::End(job, fence, ok) => key.extend([4 + u8::from(*ok), small(*job), byte(*fence)]),
            Ask::Release(job, fence) => key.extend([6, small(*job), byte(*fence)]),
            Ask::Look(job) => key.extend([7, small(*job)]),
        }
        match &self.reply {
            None => key.push(0),
            Some(Reply::Done) => key.push(1),
            Some(Reply::Beat(lost)) => key.push(2 + u8::from(*lost)),
            Some(Reply::Seen(job)) => key.extend([4, job.status as u8, byte(job.fence)]),
            Some(Reply::Claimed(jobs)) => {
                key.push(5);
                let each = jobs
                    .iter()
                    .flat_map(|(job, fence)| [small(*job), byte(*fence)]);
                key.extend(each);
            }
        }
        key
    }
}

const NONE: Faults = Faults {
    crashes: 0,
    expiries: 0,
    silences: 0,
    failures: 0,
    cancels: 0,
    retries: 0,
    spare: 0,
};

/// Explores all that so many jobs and faults can lead to.
fn explored(name: &str, jobs: usize, faults: Faults) {
    match explore(State::first(jobs, faults, false)) {
        Ok(states) => eprintln!("{name}, {jobs} jobs: {states} states"),
        Err(Found { why, path }) => panic!("{name}: {why}\n{}", path.join("\n")),
    }
}

macro_rules! explored {
    ($($name:ident: $jobs:literal, { $($fault:ident: $count:literal),+ };)+) => {
        $(#[test] fn $name() {
            explored(stringify!($name), $jobs, Faults { $($fault: $count,)+ ..NONE });
        })+
    };
}

explored! {
    a_gateway_dies_and_a_reply_is_lost: 1, { crashes: 1, silences: 1 };
    a_gateway_dies_and_an_attempt_fails: 1, { crashes: 1, failures: 1 };
    a_gateway_dies_and_its_job_is_cancelled: 1, { crashes: 1, cancels: 1 };
    a_lease_ends_unnoticed_and_a_reply_is_lost: 1, { expiries: 1, silences: 1, spare: 1 };
    leases_end_unnoticed: 1, { expiries: 2 };
    a_lease_ends_unnoticed_and_the_job_is_cancelled_and_begun_anew: 1,
        { expiries: 1, cancels: 1, retries: 1 };
    replies_are_lost_of_two_jobs: 2, { silences: 1 };
    a_gateway_of_two_jobs_dies: 2, { crashes: 1 };
    a_lease_of_two_jobs_ends_unnoticed: 2, { expiries: 1 };
    two_jobs_fail_are_cancelled_and_begun_anew: 2, { failures: 1, cancels: 1, retries: 1 };
}

#[test]
fn without_fences_the_check_finds_what_they_prevent() {
    let faults = Faults {
        expiries: 1,
        ..NONE
    };
    let found = explore(State::first(1, faults, true));
    let Err(Found { why, path }) = found else {
        panic!("nothing was found");
    };
    eprintln!("without fences: {why}, after {} steps", path.len());
    assert!(why.contains("old fence"), "{why}: {path:?}");
}
