//! Drives a job's attempts to an answer.
//!
//! Promises: the first whole answer ends the others; what is kept of it is at most `limits.answer`.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::{error, failed};
use crate::cold::follow::is_readable;
use crate::cold::job::{JobError, Status, StoredAnswer, lines};
use crate::cold::store::Outcome;
use crate::cold::tape::{Tape, Writer};
use crate::upstream::attempt::{Attempt, Hold, Verdict};
use crate::upstream::attempts::Attempts;
use crate::upstream::refusal::retryable;
use crate::upstream::target::Target;

/// What came of a job's attempts.
pub(super) enum Ended {
    /// The job's end.
    With(Outcome),
    /// A failure after which it is tried again, and what was answered.
    Again(JobError, Option<StoredAnswer>),
    /// Refused for the provider's rate; it may come back after so long.
    Later(Duration),
}

/// Runs attempts side by side until one has a whole answer, or none is left. None waits for
/// another's bytes: one that stops within does not hold up the others. Says whose end it is.
pub(super) async fn drive(
    attempts: Attempts,
    limit: usize,
    tape: &Arc<Tape>,
) -> (Ended, Option<Arc<Target>>) {
    let each = attempts.into_running().map(|one| {
        let target = one.target().clone();
        let following = follow(one, limit, tape.writer());
        async move { (following.await, Some(target)) }
    });
    let mut running: FuturesUnordered<_> = each.collect();
    let none = error("provider_unreachable", "there is no attempt");
    let mut last = (Ended::Again(none, None), None);
    while let Some(ended) = running.next().await {
        if matches!(ended.0, Ended::With(_)) {
            return ended;
        }
        last = ended;
    }
    last
}

async fn follow(attempt: Box<Attempt>, limit: usize, writer: Writer) -> Ended {
    let ended = answered(attempt, limit, &writer).await;
    if !matches!(&ended, Ended::With(outcome) if outcome.status == Status::Succeeded) {
        writer.void();
    }
    ended
}

async fn answered(mut attempt: Box<Attempt>, limit: usize, writer: &Writer) -> Ended {
    match poll_fn(|context| attempt.poll_verdict(context, Hold::Head)).await {
        Verdict::Answer => keep(attempt, limit, Some(writer)).await,
        Verdict::Refused(429, rest) => {
            let rest = attempt.target().provider.quota.rest(rest);
            // Read to its end, so that its connection can be used again.
            let _ = keep(attempt, limit, None).await;
            Ended::Later(rest)
        }
        Verdict::Refused(status, _) => {
            let answer = match keep(attempt, limit, None).await {
                Ended::With(outcome) => outcome.answer,
                Ended::Again(_, answer) => answer,
                Ended::Later(_) => None,
            };
            let message = format!("the provider answered {status}");
            Ended::Again(error("provider_error", &message), answer)
        }
        Verdict::Broken(why) => Ended::Again(error("provider_unreachable", &why.to_string()), None),
    }
}

/// Reads an answer to its end.
async fn keep(mut attempt: Box<Attempt>, limit: usize, writer: Option<&Writer>) -> Ended {
    let Some(head) = attempt.take_head() else {
        return Ended::Again(error("provider_unreachable", "there is no answer"), None);
    };
    let readable = head.status.is_success() && is_readable(&head.headers);
    let writer = writer.filter(|_| readable);
    let mut body = BytesMut::new();
    while let Some(frame) = poll_fn(|context| attempt.poll_frame(context)).await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    // What is too long is not shown either.
                    if let Some(writer) = writer.filter(|_| body.len() + data.len() <= limit) {
                        writer.write(&body, data);
                    }
                    body.extend_from_slice(data);
                }
            }
            Err(why) => {
                let message = format!("the provider broke off: {why}");
                return Ended::Again(error("provider_unreachable", &message), None);
            }
        }
        if body.len() > limit {
            let message = format!("the answer is longer than limits.answer ({limit} bytes)");
            return Ended::With(failed(error("answer_too_large", &message), None));
        }
    }
    let mut headers = head.headers;
    for name in [
        "connection",
        "transfer-encoding",
        "keep-alive",
        "content-length",
    ] {
        headers.remove(name);
    }
    let status = head.status.as_u16();
    let answer = Some(StoredAnswer {
        status,
        headers: lines(&headers),
        body: body.freeze(),
    });
    if head.status.is_success() {
        return Ended::With(Outcome {
            status: Status::Succeeded,
            answer,
            error: None,
        });
    }
    let why = error("provider_error", &format!("the provider answered {status}"));
    if retryable(status) {
        Ended::Again(why, answer)
    } else {
        Ended::With(failed(why, answer))
    }
}
