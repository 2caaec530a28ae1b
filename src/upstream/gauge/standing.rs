//! What an attempt says of its target: whether it can be used, is to be left alone, or costs more.
//!
//! Promises: one word of an attempt on its target's health, the first; what a caller did wrong is no fault
//! of the target.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::{FAILED, Gauge};
use crate::meter::Use;
use crate::upstream::quota::COOLING;

impl Gauge {
    /// What an error says of the target that another attempt there would not improve on.
    pub(super) fn is_wrong(&mut self, status: StatusCode) {
        let now = Instant::now();
        match (status.as_u16(), self.target.provider.has_key()) {
            // The gateway's own key is not taken, or not paid for: no call can be served there.
            (401 | 402, true) => self.fails(now),
            // What the caller did wrong is no fault of the target.
            _ => self.succeeds(),
        }
        // A target that says no fast is not a fast one: where another may say yes, it is asked first.
        if matches!(status.as_u16(), 401..=404) {
            self.target.load.at_least(FAILED, now);
        }
    }

    /// Its target can be used; the first word stands.
    pub(super) fn succeeds(&mut self) {
        if !std::mem::replace(&mut self.judged, true) {
            self.target.health.succeeded(self.started);
        }
    }

    /// Its target failed.
    pub(super) fn fails(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.judged, true) {
            self.target.health.failed(self.started, now);
        }
    }

    /// Nothing is known of its target.
    pub(super) fn is_given_up(&mut self) {
        if !std::mem::replace(&mut self.judged, true) {
            self.target.health.given_up(self.started);
        }
    }

    /// The answer is an error that another attempt may improve on; `rest`: until when the target
    /// asks to be left alone.
    pub fn refused(&mut self, status: StatusCode, rest: Option<Duration>) {
        self.failed = true;
        let now = Instant::now();
        match (status, rest) {
            (StatusCode::TOO_MANY_REQUESTS, rest) => self.is_limited(rest, now),
            (StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT, _) => self.is_given_up(),
            (_, rest) => {
                self.failed_fast(now);
                if let Some(rest) = rest {
                    // As for a rate: it holds all jobs of the provider, and a job's holds no hot call.
                    self.target.provider.quota.holds_for(rest, now);
                    if self.used != Use::Cold {
                        self.target.health.rest(rest, self.started, now);
                    }
                }
            }
        }
    }

    /// The answer is a 429.
    pub(super) fn is_limited(&mut self, rest: Option<Duration>, now: Instant) {
        let provider = &self.target.provider;
        // Of several accounts it speaks of one, and binds the call that came with that.
        let one = !provider.accounts.are_many(now);
        if one {
            provider.quota.refused(self.started, rest, now);
        }
        // A job's refusal holds the jobs; hot calls find out by themselves.
        self.held = self.used == Use::Cold || !one;
        if self.held {
            self.is_given_up();
        } else {
            self.judged = true;
            let rest = rest.unwrap_or(COOLING);
            self.target.health.rest(rest, self.started, now);
            self.costs(now);
        }
    }

    /// Its stream told of an error before any content.
    pub fn told_of_failure(&mut self) {
        self.failed = true;
        self.failed_fast(Instant::now());
    }

    pub(super) fn failed_fast(&mut self, now: Instant) {
        self.fails(now);
        self.costs(now);
    }

    /// A target that failed fast is not a fast target.
    pub(super) fn costs(&self, now: Instant) {
        let age = now - self.started;
        self.target.load.at_least(age.max(FAILED), now);
    }
}
