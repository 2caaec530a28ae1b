//! What is left of a provider's rate limits, and whether a job may use it.
//!
//! Learned from the head of every answer where the provider tells, else from its 429s. Promises:
//! hot calls are never held; jobs start only while more is left than what is kept for hot calls;
//! a call costs a few atomics where the provider tells its limits, and two loads where it does
//! not. One provider, one quota: models with limits of their own need providers of their own.

mod bucket;
mod pace;
mod told;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use tokio::time::Instant;

use self::bucket::Bucket;
use self::pace::{Pace, Wait};
use self::told::Told;
use crate::config;

/// A provider that answers 429 and does not say for how long is left alone this long.
pub const COOLING: Duration = Duration::from_secs(1);

/// Bytes that make about one token.
const BYTES_A_TOKEN: u64 = 4;

/// What one more job counts for in the average of their tokens.
const WEIGHT: f64 = 0.1;

/// What a provider allows, and what is left of it.
pub struct Quota {
    origin: Instant,
    requests: Bucket,
    tokens: Bucket,
    pace: Pace,
    /// Tokens of an average job, as the bits of an `f64`; zero: unknown.
    typical: AtomicU64,
    /// Why jobs are held now: one more than the place in `Why::ALL`; zero: they are not.
    holds: AtomicU8,
    reserve: f64,
    longest_hold: Duration,
}

/// What a job takes; or what all jobs had taken that were sent before a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    requests: u64,
    tokens: u64,
}

/// Why a provider gets no job now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The requests that are left are kept for hot calls.
    Requests,
    /// The tokens that are left are.
    Tokens,
    /// A `Retry-After` is not over.
    Refused,
    /// Jobs run at the rate that its 429s taught.
    Paced,
}

impl Why {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::Refused, Self::Paced];

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Refused => "refused",
            Self::Paced => "paced",
        }
    }
}

/// A provider that gets no job now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Why.
    pub why: Why,
    /// When that may be over, if nothing else is sent.
    pub wait: Duration,
}

/// What is left of one kind, for those who look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// `requests` or `tokens`.
    pub kind: &'static str,
    /// All of it.
    pub limit: u64,
    /// What is left of it, by the estimate.
    pub remaining: f64,
}

impl Quota {
    /// One of which nothing is known.
    pub fn new(settings: &config::Quota) -> Self {
        Self {
            origin: Instant::now(),
            requests: Bucket::default(),
            tokens: Bucket::default(),
            pace: Pace::default(),
            typical: AtomicU64::new(0),
            holds: AtomicU8::new(0),
            reserve: settings.reserve_for_hot,
            longest_hold: settings.longest_hold.get(),
        }
    }

    fn nanoseconds(&self, moment: Instant) -> u64 {
        u64::try_from(moment.duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// What jobs took that were sent by now.
    pub fn mark(&self) -> Share {
        Share {
            requests: self.requests.mark(),
            tokens: self.tokens.mark(),
        }
    }

    /// A hot call with a body of so many bytes is sent.
    pub fn sent(&self, bytes: u64, now: Instant) {
        if self.requests.is_told() || self.tokens.is_told() {
            let now = self.nanoseconds(now);
            self.requests.spend(1, now);
            self.tokens.spend(bytes / BYTES_A_TOKEN, now);
        }
    }

    /// An answer's head came; its call was sent at `sent`, when `mark` was what jobs had taken that were sent.
    pub fn answered(&self, headers: &HeaderMap, sent: Instant, mark: Share) {
        let told = Told::read(headers, Timestamp::now);
        if told == Told::default() {
            return;
        }
        let (sent, now) = (self.nanoseconds(sent), self.nanoseconds(Instant::now()));
        if let Some(line) = told.requests {
            self.requests.told(line, sent, mark.requests, now);
        }
        if let Some(line) = told.tokens {
            self.tokens.told(line, sent, mark.tokens, now);
        }
    }

    /// An answer was 429, to a call sent at `sent`; `rest`: how long the provider wants to be left
    /// alone, if it says.
    pub fn refused(&self, sent: Instant, rest: Option<Duration>, now: Instant) {
        let now = self.nanoseconds(now);
        let rest = self.rest(rest);
        // Where what it tells would have held jobs anyway, there is no rate to be learned.
        let told = self.requests.is_told() || self.tokens.is_told();
        let explained = told && self.told_room(now).is_err();
        let sent = self.nanoseconds(sent);
        self.pace.refused(sent, rest, !explained, now);
    }

    /// The provider wants to be left alone for so long, for another reason than its rate.
    pub fn holds_for(&self, rest: Duration, now: Instant) {
        let now = self.nanoseconds(now);
        self.pace.refused(now, self.rest(Some(rest)), false, now);
    }

    /// How long a refusal holds jobs, by what its answer said.
    pub fn rest(&self, told: Option<Duration>) -> Duration {
        told.unwrap_or(COOLING).min(self.longest_hold)
    }

    /// How many jobs may start now: at least one, or why none.
    pub fn room(&self, now: Instant) -> Result<usize, Held> {
        let now = self.nanoseconds(now);
        let paced = self.pace.room(now).map_err(|wait| match wait {
            Wait::Refused(wait) => Held {
                why: Why::Refused,
                wait,
            },
            Wait::Paced(wait) => Held {
                why: Why::Paced,
                wait,
            },
        })?;
        Ok(paced.min(self.told_room(now)?))
    }

    /// The same, by what the provider tells.
    fn told_room(&self, now: u64) -> Result<usize, Held> {
        let of = |bucket: &Bucket, least: f64, size: f64, why: Why| {
            let Some(left) = bucket.left(now) else {
                return Ok(usize::MAX);
            };
            let kept = (self.reserve * bucket.limit() as f64).max(least);
            if left < kept {
                let wait = bucket.wait_for(kept, now);
                return Err(Held { why, wait });
            }
            // One starts even if it takes more than there is above the reserve, or a large one
            // would never start.
            Ok(1 + whole((left - kept) / size))
        };
        let typical = f64::from_bits(self.typical.load(Relaxed));
        let requests = of(&self.requests, 1.0, 1.0, Why::Requests)?;
        let tokens = of(&self.tokens, 0.0, typical.max(1.0), Why::Tokens)?;
        Ok(requests.min(tokens))
    }

    /// Whether the provider wants to be left alone.
    pub fn rests(&self, now: Instant) -> bool {
        let room = self.pace.room(self.nanoseconds(now));
        matches!(room, Err(Wait::Refused(_)))
    }

    /// Whether tokens are limited, as far as is known.
    pub fn counts_tokens(&self) -> bool {
        self.tokens.is_told()
    }

    /// A job with a body of so many bytes, and an answer of at most so many tokens, takes its part,
    /// which is told to `job_sent` once. Only the runner's task calls this.
    pub fn job_takes(&self, bytes: u64, answer: u64, now: Instant) -> Share {
        let now = self.nanoseconds(now);
        let tokens = (bytes / BYTES_A_TOKEN).saturating_add(answer);
        self.pace.started(now);
        self.requests.job_takes(1, now);
        self.tokens.job_takes(tokens, now);
        let (typical, size) = (f64::from_bits(self.typical.load(Relaxed)), tokens as f64);
        let average = if typical > 0.0 {
            typical + WEIGHT * (size - typical)
        } else {
            size
        };
        self.typical.store(average.to_bits(), Relaxed);
        Share {
            requests: 1,
            tokens,
        }
    }

    /// The job that took this was sent, or never will be.
    pub fn job_sent(&self, share: Share) {
        self.requests.job_sent(share.requests);
        self.tokens.job_sent(share.tokens);
    }

    /// Notes that due jobs wait for this provider; `true` when they did not before, or for
    /// another reason.
    pub fn holds(&self, why: Why) -> bool {
        let place = Why::ALL.iter().position(|one| *one == why).unwrap_or(0);
        let place = u8::try_from(place + 1).unwrap_or(u8::MAX);
        self.holds.swap(place, Relaxed) != place
    }

    /// Notes that no due job waits for this provider any more.
    pub fn holds_none(&self) {
        self.holds.store(0, Relaxed);
    }

    /// What is left of each kind that the provider tells.
    pub fn left(&self, now: Instant) -> impl Iterator<Item = Left> {
        let now = self.nanoseconds(now);
        let kinds = [("requests", &self.requests), ("tokens", &self.tokens)];
        kinds.into_iter().filter_map(move |(kind, bucket)| {
            Some(Left {
                kind,
                limit: bucket.limit(),
                remaining: bucket.left(now)?,
            })
        })
    }

    /// Jobs a second that its 429s taught; `None`: no limit.
    pub fn job_rate(&self, now: Instant) -> Option<f64> {
        self.pace.rate(self.nanoseconds(now))
    }
}

/// The whole part of a number that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> usize {
    number.min(1e9) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn head(limit: u64, remaining: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for kind in ["requests", "tokens"] {
            let scale = if kind == "tokens" { 1_000 } else { 1 };
            for (part, value) in [("limit", limit), ("remaining", remaining)] {
                let name: http::HeaderName = format!("x-ratelimit-{part}-{kind}").parse().unwrap();
                headers.insert(name, (value * scale).into());
            }
            let name: http::HeaderName = format!("x-ratelimit-reset-{kind}").parse().unwrap();
            let reset = format!("{}ms", (limit - remaining) * 10);
            headers.insert(name, reset.parse().unwrap());
        }
        headers
    }

    fn quota(reserve: f64) -> Quota {
        Quota::new(&config::Quota {
            reserve_for_hot: reserve,
            ..config::Quota::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_start_only_while_more_is_left_than_what_is_kept_for_hot_calls() {
        let (quota, now) = (quota(0.3), Instant::now());
        assert_eq!(quota.room(now), Ok(usize::MAX));
        quota.answered(&head(100, 31), now, quota.mark());
        assert_eq!(quota.room(now), Ok(2));
        for _ in 0..2 {
            quota.job_takes(40, 0, now);
        }
        let held = quota.room(now).unwrap_err();
        assert_eq!(held.why, Why::Requests);
        assert_eq!(held.wait, Duration::from_millis(10));
        advance(held.wait).await;
        assert_eq!(quota.room(Instant::now()), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn large_jobs_are_held_by_tokens_and_one_larger_than_the_rest_still_starts() {
        let (quota, now) = (quota(0.3), Instant::now());
        quota.answered(&head(100, 99), now, quota.mark());
        quota.job_takes(4_000, 89_000, now);
        assert_eq!(quota.room(now).unwrap_err().why, Why::Tokens);
        advance(Duration::from_secs(1)).await;
        assert_eq!(quota.room(Instant::now()), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_holds_jobs_until_its_retry_after_and_at_most_the_longest_hold() {
        let (quota, now) = (quota(0.3), Instant::now());
        quota.refused(now, Some(Duration::from_hours(9)), now);
        let held = quota.room(now).unwrap_err();
        assert_eq!(held.why, Why::Refused);
        assert_eq!(held.wait, Duration::from_mins(10));
        assert!(quota.job_rate(now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_that_the_told_quota_explains_teaches_no_rate() {
        let (quota, now) = (quota(0.3), Instant::now());
        quota.answered(&head(100, 0), now, quota.mark());
        quota.refused(now, Some(Duration::from_millis(10)), now);
        assert_eq!(quota.job_rate(now), None);
        quota.answered(&head(100, 90), now, quota.mark());
        let later = now + Duration::from_millis(10);
        quota.refused(later, Some(Duration::from_millis(10)), later);
        assert!(quota.job_rate(later).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reserve_of_all_lets_jobs_start_only_in_silence() {
        let (quota, now) = (quota(1.0), Instant::now());
        quota.answered(&head(100, 99), now, quota.mark());
        assert!(quota.room(now).is_err());
        assert_eq!(quota.room(now + Duration::from_millis(10)), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_noted_once_for_each_reason() {
        let quota = quota(0.3);
        assert!(quota.holds(Why::Requests));
        assert!(!quota.holds(Why::Requests));
        assert!(quota.holds(Why::Refused));
        quota.holds_none();
        assert!(quota.holds(Why::Refused));
    }
}
