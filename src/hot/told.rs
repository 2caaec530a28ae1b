//! What a race leaves in its call's timeline, where calls are told of.
//!
//! Else each of these is one look at a pointer.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use super::record::Record;
use crate::journal::timeline::Kind;
use crate::upstream::attempt::Verdict;
use crate::upstream::attempts::Entry;
use crate::upstream::target::Target;

impl Record {
    /// It waits for a place.
    pub fn waits(&mut self, now: Instant) {
        if let Some(timeline) = self.timeline() {
            timeline.waits(now);
        }
    }

    /// An attempt begins with these headers; its `traceparent` is written there, where that is the
    /// gateway's to say.
    pub fn attempts(&mut self, to: &Arc<Target>, kind: Kind, now: Instant, with: &mut HeaderMap) {
        let timeline = self.timeline();
        if let Some(told) = timeline.and_then(|timeline| timeline.attempts(to, kind, now)) {
            told.write(with);
        }
    }

    /// An attempt's answer is passed on.
    pub fn won(&mut self, entry: &Entry) {
        if let Some(timeline) = self.timeline() {
            let attempt = &entry.attempt;
            let status = attempt.head().map(|head| head.status.as_u16());
            if let Some(head) = attempt.head() {
                timeline.is_answered(&head.headers);
            }
            let (content, now) = (attempt.first_content(), attempt.judged());
            timeline.won(entry.number.into(), status, content, now);
        }
    }

    /// An attempt has none.
    pub fn failed(&mut self, entry: &Entry, verdict: &Verdict, reason: &'static str) {
        if let Some(timeline) = self.timeline() {
            let status = match verdict {
                Verdict::Refused(status, _) => Some(*status),
                Verdict::Broken(_) => None,
                Verdict::Answer | Verdict::Told => {
                    entry.attempt.head().map(|head| head.status.as_u16())
                }
            };
            timeline.failed(entry.number.into(), status, reason, entry.attempt.judged());
        }
    }
}
