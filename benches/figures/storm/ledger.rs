//! Holds what the gateways promised against what the callers, the providers, the receiver and the
//! store saw.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::callers::{Sent, What};
use super::house::Kill;
use super::provider::Seen;
use super::receiver::Arrived;
use super::settle::Found;

/// Promises that were broken, and figures.
#[derive(Default)]
pub struct Report {
    pub broken: Vec<String>,
    pub lines: Vec<String>,
}

impl Report {
    pub fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    /// A promise: what was found against it, with the first cases of it.
    pub fn hold<T: std::fmt::Debug>(&mut self, promise: &str, against: &[T]) {
        if !against.is_empty() {
            let shown: Vec<_> = against.iter().take(3).collect();
            self.broken.push(format!(
                "{promise}: {} against it, such as {shown:?}",
                against.len()
            ));
        }
    }
}

/// The jobs that callers were given.
pub fn accepted(sent: &[Sent]) -> HashMap<u32, &str> {
    let accepted = sent.iter().filter_map(|one| match &one.what {
        What::Accepted(job) => Some((one.tag, job.as_str())),
        _ => None,
    });
    accepted.collect()
}

/// What takes its time.
#[derive(Clone, Copy)]
pub struct Patience {
    /// How long after a gateway's death its jobs may run again.
    pub rescue: Duration,
    /// How long before its gateway's death an answered call may have ended and still not be stored.
    pub unstored: Duration,
}

/// Whether the call died with its gateway before the next one of its job came.
fn died(call: &Seen, next: &Seen, kills: &[Kill], unstored: Duration) -> Option<Kill> {
    kills.iter().copied().find(|kill| {
        kill.gateway == call.gateway
            && call.came <= kill.dead
            && call.ended + unstored >= kill.from
            && next.came >= kill.from
    })
}

/// Every call at the providers but each job's first has a cause: the one before died with its
/// gateway, and it came soon after that.
pub fn calls(
    report: &mut Report,
    sent: &[Sent],
    seen: &[Seen],
    kills: &[Kill],
    patience: Patience,
) {
    let accepted = accepted(sent);
    let mut by_tag: HashMap<u32, Vec<Seen>> = HashMap::new();
    for call in seen {
        by_tag.entry(call.tag).or_default().push(*call);
    }
    let (mut cut, mut unstored, mut total, mut without) = (0, 0, 0, Vec::new());
    let (mut rescues, mut late) = (Vec::new(), Vec::new());
    for (tag, calls) in &mut by_tag {
        calls.sort_by_key(|call| call.came);
        total += if accepted.contains_key(tag) {
            calls.len()
        } else {
            0
        };
        for pair in calls.windows(2) {
            let Some(kill) = died(&pair[0], &pair[1], kills, patience.unstored) else {
                without.push((*tag, pair[0], pair[1].came - pair[0].ended));
                continue;
            };
            cut += usize::from(!pair[0].answered);
            unstored += usize::from(pair[0].answered);
            let after = pair[1].came.duration_since(kill.dead);
            late.extend((after > patience.rescue).then_some((*tag, after)));
            rescues.push(after.as_secs_f64());
        }
    }
    report.say(format!(
        "{total} provider calls for {} jobs; {} attempts that died with their gateway were made again ({cut} cut, {unstored} answered and not stored yet){}",
        accepted.len(),
        rescues.len(),
        spread(", after their gateway's death", rescues)
    ));
    report.hold(
        "an attempt is made again only when its gateway died",
        &without,
    );
    report.hold(
        "a dead gateway's jobs run again within two heartbeats",
        &late,
    );
}

/// A spread of seconds, in words.
pub fn spread(what: &str, seconds: Vec<f64>) -> String {
    if seconds.is_empty() {
        return String::new();
    }
    let sorted = super::super::rig::sorted(seconds);
    let at = |share| super::super::rig::at(&sorted, share);
    format!(
        "{what} p50 {:.3} s, p99 {:.3} s, max {:.3} s",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// Every job that had its 202 was called back, verified, under one id of its own.
pub fn callbacks(
    report: &mut Report,
    sent: &[Sent],
    arrived: &Arrived,
    found: &HashMap<u32, Found>,
) {
    let accepted = accepted(sent);
    let (mut duplicates, mut untold, mut wrong) = (0, Vec::new(), Vec::new());
    let mut owners: HashMap<&str, u32> = HashMap::new();
    let mut shared = Vec::new();
    for (tag, told) in &arrived.told {
        duplicates += told.len() - 1;
        let first = &told[0];
        let answer = found.get(tag).and_then(|found| found.answer.as_ref());
        let job = accepted.get(tag);
        let same = told.iter().all(|one| one == first);
        let known = answer.is_none_or(|answer| first.answer.as_ref() == Some(answer));
        if !same || !known || job.is_some_and(|job| *job != first.job) {
            wrong.push((*tag, told));
        }
        for one in told {
            if *owners.entry(&one.webhook).or_insert(*tag) != *tag {
                shared.push(one);
            }
        }
    }
    let not_told = accepted
        .keys()
        .filter(|tag| !arrived.told.contains_key(tag));
    untold.extend(not_told.map(|tag| (*tag, found.get(tag).map(|found| &found.callback))));
    report.say(format!(
        "{} jobs called back, {} of them of a 202, {duplicates} callbacks twice, {} not verified",
        arrived.told.len(),
        accepted.len() - untold.len(),
        arrived.refused.len()
    ));
    report.hold("every callback is verified", &arrived.refused);
    report.hold("every job is called back", &untold);
    report.hold("one job, one webhook-id, one answer", &wrong);
    report.hold("a webhook-id is one job's", &shared);
}

/// Every job that had its 202 is in a final state, with one answer whoever is asked.
pub fn jobs(report: &mut Report, sent: &[Sent], found: &HashMap<u32, Found>) {
    let accepted = accepted(sent);
    let mut states: HashMap<&str, usize> = HashMap::new();
    for one in found.values() {
        *states.entry(&one.status).or_default() += 1;
    }
    let unfinished: Vec<_> = accepted
        .iter()
        .filter(|(tag, _)| found.get(tag).is_none_or(|found| !found.is_final()))
        .map(|(tag, job)| (job, found.get(tag)))
        .collect();
    let unlike: Vec<_> = found.values().filter(|found| found.changed).collect();
    let failed: Vec<_> = found
        .values()
        .filter(|found| found.status != "succeeded")
        .collect();
    report.say(format!(
        "{} jobs had their 202; asked through any gateway: {states:?}",
        accepted.len()
    ));
    report.hold("every job that had its 202 is final", &unfinished);
    report.hold("a result never changes", &unlike);
    report.hold("every job succeeds, for its provider answers all", &failed);
    let names: HashSet<&str> = accepted.values().copied().collect();
    if names.len() != accepted.len() {
        report.broken.push("two calls were given one job".into());
    }
}

/// Hot traffic goes on: only what was under way at a gateway that died is lost.
pub fn hot(report: &mut Report, sent: &[Sent], kills: &[Kill]) {
    let lost = |one: &&Sent| {
        one.what == What::Broken
            && kills.iter().any(|kill| {
                kill.gateway == one.gateway && one.due <= kill.dead && one.ended >= kill.from
            })
    };
    let failed: Vec<&Sent> = sent
        .iter()
        .filter(|one| one.what != What::Answered(200) && one.what != What::Nobody)
        .collect();
    let (lost, failed): (Vec<&Sent>, Vec<&Sent>) = failed.into_iter().partition(lost);
    let nobody = sent.iter().filter(|one| one.what == What::Nobody).count();
    let took = sent
        .iter()
        .filter(|one| one.what == What::Answered(200))
        .map(|one| (one.ended - one.due).as_secs_f64());
    report.say(format!(
        "{} hot calls: {} failed, {} lost with their gateway, {nobody} found none alive{}",
        sent.len(),
        failed.len(),
        lost.len(),
        spread("; took", took.collect())
    ));
    report.hold("hot traffic goes on", &failed);
}
