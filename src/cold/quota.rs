//! Hot before cold: how many jobs of a route its providers take now, and which of them.
//!
//! Promises: a job starts only at a provider whose quota has room for it and that does not want to be
//! left alone, at a target that is open or, one at a time, to be probed; what is held back stays in
//! the store. Asks nobody, waits for nothing.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use tokio::time::Instant;

use crate::meter::Meter;
use crate::upstream::balance::Targets;
use crate::upstream::health::Admission;
use crate::upstream::part::Part;
use crate::upstream::peek::Peek;
use crate::upstream::permits::Permit;
use crate::upstream::provider::Provider;
use crate::upstream::quota::Why;
use crate::upstream::target::Target;

/// Where a job goes, and its leave to.
pub(super) struct Place {
    /// Where to.
    pub target: Arc<Target>,
    /// Leave to call it.
    pub permit: Permit,
    /// Its part of the quota.
    pub part: Part,
    /// When.
    pub picked: Instant,
}

/// The providers of a route, each once.
fn providers(targets: &Targets) -> impl Iterator<Item = &Arc<Provider>> {
    let all = targets.all();
    all.iter().enumerate().filter_map(|(at, target)| {
        let before = &all[..at];
        let known = before
            .iter()
            .any(|one| Arc::ptr_eq(&one.provider, &target.provider));
        (!known).then_some(&target.provider)
    })
}

/// How many jobs a route's targets take now; else how long until one may.
pub(super) fn room(targets: &Targets, now: Instant) -> Result<usize, Duration> {
    let (mut room, mut wait) = (0usize, Duration::MAX);
    for provider in providers(targets) {
        let quota = provider.quota.room(now).map_err(|held| held.wait);
        match quota.and_then(|more| Ok(more.min(places(targets, provider, now)?))) {
            Ok(more) => room = room.saturating_add(more),
            Err(held) => wait = wait.min(held),
        }
    }
    if room > 0 { Ok(room) } else { Err(wait) }
}

/// Places for jobs at a provider's targets: where they are open, and one at each that is to be
/// probed; else how long until there may be one.
fn places(targets: &Targets, provider: &Arc<Provider>, now: Instant) -> Result<usize, Duration> {
    let (mut places, mut wait) = (0usize, Duration::MAX);
    let ours = |target: &&Arc<Target>| Arc::ptr_eq(&target.provider, provider);
    for target in targets.all().iter().filter(ours) {
        let spare = match target.health.admission(now) {
            Admission::Open => target.spare(),
            Admission::HalfOpen => target.spare().min(1),
            Admission::Closed => {
                // Where a probe runs, its end is the next news.
                let closed = target.health.closed_for(now).filter(|left| !left.is_zero());
                wait = wait.min(closed.unwrap_or(Duration::MAX));
                continue;
            }
        };
        places = places.saturating_add(spare);
        if spare == 0 {
            wait = Duration::ZERO;
        }
    }
    if places > 0 { Ok(places) } else { Err(wait) }
}

fn held(meter: &Meter, provider: &str, why: Why) -> Counter {
    let labels = [("provider", provider), ("reason", why.as_str())];
    meter.counter("shunt_jobs_held_total", &labels)
}

/// Makes the counters of a route's providers; each is there from the start.
pub(super) fn told(targets: &Targets, meter: &Meter) {
    for provider in providers(targets) {
        for why in Why::ALL {
            _ = held(meter, &provider.name, why);
        }
    }
}

/// Counts that due jobs wait for a route's providers, once as long as the reason stays.
pub(super) fn note_held(targets: &Targets, now: Instant, meter: &Meter) {
    for provider in providers(targets) {
        if let Err(no) = provider.quota.room(now)
            && provider.quota.holds(no.why)
        {
            held(meter, &provider.name, no.why).increment(1);
        }
    }
}

/// The due jobs of a route wait for no quota any more.
pub(super) fn note_free(targets: &Targets) {
    for provider in providers(targets) {
        provider.quota.holds_none();
    }
}

/// A place at a target for a job, which takes its part of the quota there; `None`: all are taken.
/// Callers that wait for a place go first.
pub(super) fn take(targets: &Targets, body: &[u8], now: Instant) -> Option<Place> {
    let takes = |target: &Target| target.provider.quota.room(now).is_ok() && target.spare() > 0;
    // The last of a quota may have gone to another job of this claim, or another route's: one more
    // is sent, but for where the provider wants to be left alone.
    let one_more = |target: &Target| !target.provider.quota.rests(now) && target.spare() > 0;
    let target = targets
        .first_of(takes, now)
        .or_else(|| targets.first_of(one_more, now))?
        .clone();
    let Some(permit) = target.permit(now) else {
        // It may have been picked to be probed.
        target.health.given_up(now);
        return None;
    };
    let quota = &target.provider.quota;
    // A body is only read again where tokens are limited.
    let answer = if quota.counts_tokens() {
        answer_tokens(body)
    } else {
        0
    };
    let share = quota.job_takes(body.len() as u64, answer, now);
    let part = Part::new(target.clone(), share);
    Some(Place {
        target,
        permit,
        part,
        picked: now,
    })
}

/// Tokens that an answer may take, where the request says.
fn answer_tokens(body: &[u8]) -> u64 {
    let peek = Peek::read(body).unwrap_or_default();
    peek.most_tokens.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_an_answer_is_found_under_every_name() {
        for (body, tokens) in [
            (r#"{"messages":[],"max_tokens":5}"#, 5),
            (r#"{"max_tokens":null,"max_completion_tokens":7}"#, 7),
            (r#"{"input":"x","max_output_tokens":9}"#, 9),
            (r#"{"max_tokens":"many"}"#, 0),
            ("[]", 0),
            ("", 0),
        ] {
            assert_eq!(answer_tokens(body.as_bytes()), tokens, "{body}");
        }
    }
}
