//! What was promised, held against what callers, providers, the receiver and the system saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use super::callers::{Done, Kind, Step, What};
use super::control::Control;
use super::faults::{Made, Stood};
use super::settle::Found;
use super::vitals::Vitals;
use crate::storm::receiver::Arrived;
use crate::storm::{Report, spread};

/// What may come on top of a deadline: two cores run everything.
pub const MARGIN: Duration = Duration::from_secs(1);

/// Late requests that are told one by one.
const SHOWN: usize = 40;

/// How far memory may be from where it was: a share of it, and MiB.
const MEMORY: (f64, f64) = (0.25, 16.0);

fn counts<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

/// For how long a request's gateway stood still meanwhile.
fn stood(step: &Step, all: &[Stood]) -> Duration {
    let ours = all.iter().filter(|one| one.gateway == step.gateway);
    let overlap = ours.map(|one| {
        let (from, until) = (one.from.max(step.from), one.until.min(step.ended));
        until.saturating_duration_since(from)
    });
    overlap.sum()
}

/// Calls by kind and outcome; none ends later than it must.
pub fn calls(report: &mut Report, all: &[Done], made: &Made, control: &Control, began: Instant) {
    let steps = || all.iter().flat_map(|done| &done.steps);
    report.say(format!("{} calls, {} requests", all.len(), steps().count()));
    let mut kinds: BTreeMap<(Kind, &str), Vec<&Step>> = BTreeMap::new();
    for step in steps() {
        kinds.entry((step.kind, step.name)).or_default().push(step);
    }
    for ((kind, name), steps) in &kinds {
        let told = counts(steps.iter().map(|step| match &step.what {
            What::Answered(status) => status.to_string(),
            other => format!("{other:?}").to_lowercase(),
        }));
        let told: Vec<_> = told
            .iter()
            .map(|(what, count)| format!("{what}: {count}"))
            .collect();
        let took = steps
            .iter()
            .map(|step| (step.ended - step.from).as_secs_f64());
        let took = spread("", took.collect());
        report.say(format!("  {kind:?} {name}: {};{took}", told.join(", ")));
    }
    late(report, steps(), made, control, began);
    let bugs: Vec<_> = steps()
        .filter(|step| step.what == What::Answered(500))
        .collect();
    report.hold("no answer says that the gateway failed", &bugs);
}

/// One key has one answer. `unkept`: when each gateway said that it could not keep one in time; what is
/// asked for then at another gateway, that one cannot know.
pub fn keys(report: &mut Report, all: &[Done], made: &Made, unkept: &[Vec<SystemTime>]) {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let at = |moment: Instant| wall - (now - moment);
    let said = |step: &Step| {
        let until = at(step.ended) + Duration::from_secs(1);
        let mut all = unkept[step.gateway].iter();
        all.any(|told| *told >= at(step.from) && *told <= until)
    };
    let unlike = all.iter().filter(|done| done.unlike);
    let silent = |done: &&Done| done.steps.iter().any(|step| was_away(step, &made.away));
    let (silent, unlike): (Vec<_>, Vec<_>) = unlike.partition(silent);
    let (slow, unlike): (Vec<&Done>, Vec<&Done>) = unlike
        .into_iter()
        .partition(|done| done.steps.iter().any(said));
    let unlike: Vec<_> = unlike.iter().map(|done| (done.tag, &done.steps)).collect();
    report.say(format!(
        "keys under which two answers were given: {}; {} while their store was silent, {} that took it \
         longer to keep than a gateway waits, which it said",
        unlike.len(),
        silent.len(),
        slow.len()
    ));
    report.hold("one key, one answer", &unlike);
}

/// Whether a store did not answer meanwhile, or had just come back.
fn was_away(step: &Step, all: &[(Instant, Instant)]) -> bool {
    let back = Duration::from_secs(3);
    all.iter()
        .any(|(from, until)| step.ended >= *from && step.from <= *until + back)
}

/// Those that ended too late, by themselves and not because their gateway or this machine stood still.
fn late<'a>(
    report: &mut Report,
    steps: impl Iterator<Item = &'a Step>,
    made: &Made,
    control: &Control,
    began: Instant,
) {
    let over = steps.filter_map(|step| {
        let took = (step.ended - step.from).saturating_sub(stood(step, &made.stood));
        let over = took.checked_sub(step.allowed + MARGIN)?;
        Some((step, over, over > control.added(step.from, step.ended)))
    });
    let (hung, held): (Vec<_>, Vec<_>) = over.partition(|(_, _, itself)| *itself);
    let (often, worst) = control.worst();
    report.say(format!(
        "requests that ended later than their deadline and {MARGIN:?}: {}, and {} that this machine held up; \
         a caller of no gateway was held up {often} times, {worst:.1?} at most",
        hung.len(),
        held.len()
    ));
    for (step, over, _) in hung.iter().take(SHOWN) {
        report.say(format!(
            "  {:?} {} at gateway {}, {:?}: from {:.1} s on for {:.1} s, {over:.1?} too long",
            step.kind,
            step.name,
            step.gateway,
            step.what,
            (step.from - began).as_secs_f64(),
            (step.ended - step.from).as_secs_f64()
        ));
    }
    let kinds = counts(
        hung.iter()
            .map(|(step, ..)| (step.kind, step.name, step.gateway)),
    );
    for ((kind, name, gateway), count) in kinds {
        report.say(format!("  {kind:?} {name} at gateway {gateway}: {count}"));
    }
    report.hold("no call hangs past its deadline", &hung);
}

/// Every job that had its 202 ends once, as it should.
pub fn jobs(report: &mut Report, all: &[Done], found: &HashMap<u32, Found>) {
    let accepted: Vec<&Done> = all.iter().filter(|done| done.job.is_some()).collect();
    let states = counts(found.values().map(|found| found.status.clone()));
    let lost = accepted.iter().filter_map(|done| {
        let told = found.get(&done.tag);
        let page = told.map(|told| (&told.status, &told.page));
        (!told.is_some_and(Found::is_final)).then_some((&done.job, page))
    });
    let lost: Vec<_> = lost.collect();
    report.say(format!(
        "{} jobs accepted: {states:?}; lost: {}",
        accepted.len(),
        lost.len()
    ));
    report.hold("no job is lost", &lost);
    let with = |status: &str, cancelled: bool| -> Vec<_> {
        let ours = accepted.iter().filter(|done| done.cancelled == cancelled);
        let told = ours.filter_map(|done| Some((done.kind, found.get(&done.tag)?)));
        told.filter(|(_, found)| found.status == status).collect()
    };
    let unasked = with("cancelled", false);
    let unasked: Vec<_> = unasked
        .iter()
        .filter(|(kind, _)| *kind != Kind::Cancelled)
        .collect();
    report.hold("no job is cancelled that nobody cancelled", &unasked);
    report.hold("a cancelled job stays cancelled", &with("succeeded", true));
    for status in ["failed", "expired"] {
        report.hold(
            &format!("no job ends as {status}: its provider gets well"),
            &with(status, false),
        );
    }
    let names: HashSet<_> = accepted
        .iter()
        .filter_map(|done| done.job.as_ref())
        .collect();
    if names.len() != accepted.len() {
        report.broken.push("two calls were given one job".into());
    }
}

/// Every job that was to be called back is, under one id.
pub fn callbacks(
    report: &mut Report,
    all: &[Done],
    arrived: &Arrived,
    missing: &[u32],
    found: &HashMap<u32, Found>,
    made: &Made,
) {
    let due = all
        .iter()
        .filter(|done| done.job.is_some() && done.kind != Kind::Polled);
    let due = due.count();
    let jobs: HashMap<u32, &str> = all
        .iter()
        .filter_map(|done| Some((done.tag, done.job.as_ref()?.0.as_str())))
        .collect();
    let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // A caller whose connection broke, or that was refused because the store was silent, does not know
    // whether it has a job; one that was refused otherwise has none.
    let answered = |done: &&Done| {
        let first = done.steps.first();
        first.is_some_and(|step| {
            let silent = step.what == What::Answered(503) && was_away(step, &made.away);
            matches!(step.what, What::Answered(_)) && !silent
        })
    };
    let refused: HashSet<u32> = all.iter().filter(answered).map(|done| done.tag).collect();
    let (mut strange, mut unsure) = (Vec::new(), 0);
    for (tag, told) in &arrived.told {
        for one in told {
            if jobs.get(tag).is_some_and(|job| *job == one.job) {
                ids.entry(&one.job).or_default().push(&one.webhook);
            } else if refused.contains(tag) {
                strange.push(one);
            } else {
                unsure += 1;
            }
        }
    }
    let again: usize = ids.values().map(|ids| ids.len() - 1).sum();
    let many = ids
        .iter()
        .filter(|(_, ids)| ids.iter().any(|one| one != &ids[0]));
    let many: Vec<_> = many.collect();
    let unverified = counts(arrived.refused.iter());
    report.say(format!(
        "callbacks due: {due}, delivered: {}, the same again: {again}, not verified: {unverified:?}; \
         of calls that do not know, whose connection broke or whose store was silent: {unsure}; of others that were refused: {}",
        due - missing.len(),
        strange.len()
    ));
    report.hold("nobody hears of a job that was refused", &strange);
    let missing: Vec<_> = missing.iter().map(|tag| found.get(tag)).collect();
    report.hold("every job is called back", &missing);
    report.hold("a job is called back under one id", &many);
}

/// A gateway before, after its warm-up and in the end.
pub struct Course {
    pub gateway: usize,
    /// The same process all the time.
    pub same: bool,
    pub idle: Vitals,
    pub warm: Vitals,
    pub most: Vitals,
    pub end: Vitals,
}

/// Nothing is left over, and memory is where it was.
pub fn vitals(report: &mut Report, courses: &[Course], running: usize) {
    report.say(format!("calls that run at providers in the end: {running}"));
    if running > 0 {
        report
            .broken
            .push(format!("{running} calls run at providers in the end"));
    }
    for course in courses {
        let Course {
            gateway,
            idle,
            warm,
            most,
            end,
            ..
        } = course;
        let kept = if course.same {
            ""
        } else {
            " (a later process)"
        };
        report.say(format!(
            "gateway {gateway}{kept}: memory {:.1} MiB before, {:.1} warm, {:.1} at most, {:.1} in the end; \
             threads {}, {}, {}, {}; descriptors {}, {}, {}, {}; tasks {}, {}, -, {}",
            idle.memory, warm.memory, most.memory, end.memory,
            idle.threads, warm.threads, most.threads, end.threads,
            idle.descriptors, warm.descriptors, most.descriptors, end.descriptors,
            idle.tasks, warm.tasks, end.tasks
        ));
        let mut must = |holds: bool, promise: &str| {
            if !holds {
                report.broken.push(format!("gateway {gateway}: {promise}"));
            }
        };
        must(end.tasks <= idle.tasks, "no task is left over");
        must(
            end.descriptors <= idle.descriptors + 8,
            "no descriptor is left over",
        );
        must(end.threads <= idle.threads + 2, "no thread is left over");
        let (share, further) = MEMORY;
        let bound = warm.memory * (1.0 + share) + further;
        must(
            end.memory <= bound,
            &format!(
                "memory returns: {:.1} MiB are more than {bound:.1}",
                end.memory
            ),
        );
    }
}
