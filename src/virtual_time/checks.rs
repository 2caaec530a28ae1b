//! The promises, held against what happened.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::identity;
use super::ledger::{Book, End, Seen, Sent};
use super::plan::{LANES, Lane};
use super::provider::{Fate, NAMES};
use crate::cold::job::{JobError, JobId, Status, virtual_clock};
use crate::cold::store::memory::Row;

/// What may come on top of a deadline, and after an owner's end.
pub const SLACK: Duration = Duration::from_millis(5);

/// Longest wait for a connection in `house.toml`: a hedge is seen at its provider so much later
/// than it was paid.
const CONNECT: Duration = Duration::from_secs(1);

/// Hedges that a quiet minute may save up (`hot::route::SAVED_HEDGES`, written again on purpose).
const SAVED: f64 = 10.0;

/// What happened, ordered for the checks.
pub struct Account<'a> {
    book: &'a Book,
    sent: HashMap<u64, Vec<&'a Sent>>,
    jobs: HashMap<u64, Vec<&'a Row>>,
    /// Those whose caller was refused while the store was silent.
    unheard: HashMap<u64, Vec<&'a Row>>,
    now: Instant,
    /// When the gateway was stopped with calls under way.
    stopped: Option<Instant>,
    /// The store was slow or away now and then.
    ill: bool,
}

/// How long a store may be silent before whoever was to become a job is refused
/// (`hot::demote::PATIENCE`, written again on purpose).
const STORE: Duration = Duration::from_millis(500);

/// The longest illness of a store in `mischief`, and the next look at it: until then it may be unknown
/// whether what somebody ordered was written.
const RECOVERY: Duration = Duration::from_secs(10);

impl<'a> Account<'a> {
    /// Orders it.
    pub fn new(book: &'a Book, rows: &'a [Row], now: Instant, stopped: Option<Instant>) -> Self {
        let mut sent: HashMap<_, Vec<_>> = HashMap::new();
        for one in &book.sent {
            sent.entry(one.call).or_default().push(one);
        }
        let (mut jobs, mut unheard): (HashMap<_, Vec<_>>, HashMap<_, Vec<_>>) = Default::default();
        for row in rows {
            let lines = &row.request.headers;
            let line = lines.iter().find(|(name, _)| name == identity::CALL);
            let call = line.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
            let error = row.job.error.as_ref();
            let refused = |error: &JobError| error.message.starts_with("its caller was refused");
            let kind = if error.is_some_and(refused) {
                &mut unheard
            } else {
                &mut jobs
            };
            kind.entry(call.unwrap_or(u64::MAX)).or_default().push(row);
        }
        Self {
            book,
            sent,
            jobs,
            unheard,
            now,
            stopped,
            ill: false,
        }
    }

    /// The same with a store that was slow or away now and then.
    pub fn with_an_ill_store(self, ill: bool) -> Self {
        Self { ill, ..self }
    }

    /// Every promise that was broken.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.book.faults.clone();
        for seen in self.book.seen.values() {
            faults.extend(self.deadline(seen));
            faults.extend(self.owned(seen));
            faults.extend(self.one_winner(seen));
            faults.extend(self.counted(seen));
        }
        for rows in self.jobs.values().chain(self.unheard.values()) {
            faults.extend(rows.iter().filter_map(|row| self.one_result(row)));
        }
        for (call, rows) in &self.jobs {
            faults.extend(rows.iter().filter_map(|row| self.kept(*call, row)));
        }
        faults.extend(LANES.iter().filter_map(|lane| self.capped(lane)));
        faults
    }

    fn sent(&self, call: u64) -> &[&'a Sent] {
        self.sent.get(&call).map_or(&[], Vec::as_slice)
    }

    /// A caller that stayed had its answer within its budget.
    fn deadline(&self, seen: &Seen) -> Option<String> {
        let plan = &seen.plan;
        // With the gateway stopped under it a call ends when the drain does.
        if seen.end == End::Left || self.stopped.is_some_and(|stopped| stopped <= seen.ended) {
            return None;
        }
        let late = |what: &str, at: Instant, limit: Duration| {
            let took = at - seen.sent;
            (took > limit + SLACK).then(|| {
                let call = plan.call;
                format!("call {call}: {what} after {took:?}, budget {limit:?}: {seen:?}")
            })
        };
        if plan.lane.cuts && plan.streamed {
            let total = Duration::from_millis(plan.lane.budget.1);
            if let Some(fault) = late("the stream was not cut", seen.ended, total) {
                return Some(fault);
            }
        }
        let mut limit = plan.deadline()?;
        if self.ill && plan.lane.demotes {
            limit += STORE;
        }
        let begun = plan.streamed && seen.head.is_some_and(|(status, _)| status == 200);
        let at = if begun {
            seen.content.unwrap_or(seen.ended)
        } else {
            seen.ended
        };
        late("an answer", at, limit)
    }

    /// No call at a provider outlives its owner.
    fn owned(&self, seen: &Seen) -> Option<String> {
        let call = seen.plan.call;
        // One that nobody heard of may be claimed and tried until it is undone.
        let jobs = [&self.jobs, &self.unheard].map(|rows| rows.get(&call).into_iter().flatten());
        let jobs: Vec<_> = jobs.into_iter().flatten().collect();
        let ordered = jobs.iter().any(|row| row.job.status == Status::Cancelled);
        let ends = jobs.iter().map(|row| {
            row.job.finished_at.map_or(self.now, |at| {
                virtual_clock::shown(at)[virtual_clock::shown(at).len() - 1]
            })
        });
        // What was handed over for a caller that left waits for an ill store as long as it would have.
        let slack = match (self.ill, ordered) {
            (false, _) => SLACK,
            (true, false) => SLACK + STORE,
            (true, true) => RECOVERY,
        };
        let owner = ends.fold(seen.ended, Instant::max) + slack;
        let outlives = |one: &&&Sent| one.ended.is_none_or(|ended| ended > owner);
        let found = self.sent(call).iter().find(outlives)?;
        Some(format!(
            "call {call}: {found:?} outlives its owner: {seen:?}"
        ))
    }

    /// Once the caller has its answer only the winner runs, and it is the one that it is said to be.
    fn one_winner(&self, seen: &Seen) -> Option<String> {
        let (_, head) = seen.head?;
        let (call, target) = (seen.plan.call, seen.target.as_ref()?);
        if self.jobs.contains_key(&call) {
            return None;
        }
        let late = head + SLACK;
        let runs = |one: &&&Sent| one.began <= late && one.ended.is_none_or(|ended| ended > late);
        let running: Vec<_> = self.sent(call).iter().filter(runs).collect();
        let foreign = running.iter().any(|one| NAMES[one.provider] != target);
        (running.len() > 1 || foreign)
            .then(|| format!("call {call}: losers run on: {running:?}: {seen:?}"))
    }

    /// Providers saw no more calls than the gateway says that it made.
    fn counted(&self, seen: &Seen) -> Option<String> {
        let call = seen.plan.call;
        let jobs = self.jobs.get(&call);
        if jobs.is_some_and(|rows| rows.len() > 1) {
            return Some(format!("call {call} became more than one job"));
        }
        let said = match jobs.and_then(|rows| rows.first()) {
            Some(row) => usize::try_from(row.job.attempts).unwrap(),
            None => seen.attempts?,
        };
        // A job's call that its provider refuses for its rate is none of its attempts, nor one that
        // finds every target away.
        let free = |one: &Sent| matches!(one.fate, Fate::Refuses(429 | 503 | 529, _));
        let paced = |one: &&Sent| jobs.is_some() && free(one);
        let sent = self.sent(call).iter().filter(|one| !paced(one)).count();
        (sent > said)
            .then(|| format!("call {call}: sent {sent} times, said to be {said}: {seen:?}"))
    }

    /// A job has ended, with one result, and that is what its caller was told.
    fn one_result(&self, row: &Row) -> Option<String> {
        let (id, status) = (row.job.id.as_str(), row.job.status);
        if !status.is_final() || (status == Status::Succeeded) != row.answer_is_whole() {
            return Some(format!("job {id} is {status:?} with {:?}", row.answer));
        }
        let told = self.book.told.get(id)?;
        let kept = row
            .answer
            .as_ref()
            .map(|answer| (answer.status, &answer.body[..]));
        let same = kept.is_none_or(|(status, body)| told.result == (status, body.to_vec()));
        let again = told.status == status.as_str() && same;
        let counted = told.attempts == usize::try_from(row.job.attempts).unwrap();
        (!again || !counted || JobId::parse(id).is_none())
            .then(|| format!("job {id} was told as {told:?} and is {:?}", row.job))
    }

    /// An answer that a provider gave to a job's call is not lost.
    fn kept(&self, call: u64, row: &Row) -> Option<String> {
        let whole = |one: &&Sent| one.fate.is_whole() && one.done;
        let lost = matches!(row.job.status, Status::Expired | Status::Failed);
        let answered = self.stopped.is_none() && self.sent(call).iter().any(whole);
        (lost && answered).then(|| format!("call {call}: its answer is lost: {:?}", row.job))
    }

    /// Over any stretch of time hedges are at most the route's share of its calls and what it had
    /// saved.
    fn capped(&self, lane: &'static Lane) -> Option<String> {
        let ours = self
            .book
            .seen
            .values()
            .filter(|seen| std::ptr::eq(seen.plan.lane, lane));
        let (mut calls, mut hedges) = (Vec::new(), Vec::new());
        for seen in ours {
            calls.push(seen.sent);
            let sent = self.sent(seen.plan.call);
            for (at, one) in sent.iter().enumerate() {
                let beside = |other: &&Sent| other.ended.is_none_or(|ended| ended > one.began);
                if sent[..at].iter().any(beside) && !self.is_cold(seen.plan.call, one.began) {
                    hedges.push(one.began);
                }
            }
        }
        calls.sort_unstable();
        hedges.sort_unstable();
        for (at, first) in hedges.iter().enumerate() {
            let from = first.checked_sub(CONNECT).unwrap_or(*first);
            let before = calls.partition_point(|call| *call < from);
            for (more, last) in hedges[at..].iter().enumerate() {
                let count = calls.partition_point(|call| call <= last) - before;
                #[expect(clippy::cast_precision_loss)]
                let (made, count) = ((more + 1) as f64, count as f64);
                let saved = if lane.max_extra > 0.0 { SAVED } else { 0.0 };
                if made > lane.max_extra * count + saved {
                    let (name, over) = (lane.name, *last - *first);
                    return Some(format!(
                        "{name}: {made} hedges for {count} calls in {over:?}"
                    ));
                }
            }
        }
        None
    }

    /// Whether a call was a job by then: a job's attempts are no hedges.
    fn is_cold(&self, call: u64, at: Instant) -> bool {
        let rows = self.jobs.get(&call).into_iter().flatten();
        rows.into_iter().any(|row| {
            let elapsed = Duration::from_millis(row.job.elapsed_ms);
            virtual_clock::shown(row.job.created_at.plus(elapsed))[0] <= at
        })
    }
}
