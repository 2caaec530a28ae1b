//! Drives a job's attempts to an answer.
//!
//! Promises: the first whole answer ends the others; what is kept of it is at most `limits.answer`.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use futures_util::future::{BoxFuture, FutureExt as _, MaybeDone, maybe_done};
use http::header::CONTENT_LENGTH;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until, timeout};

use crate::cold::follow::is_readable;
use crate::cold::history::Run;
use crate::cold::job::{JobError, Status, StoredAnswer, lines};
use crate::cold::store::Outcome;
use crate::cold::tape::{Tape, Writer};
use crate::cold::timing::Timing;
use crate::upstream::attempt::{Attempt, Broken, Hold, Verdict};
use crate::upstream::attempts::Attempts;
use crate::upstream::now::Now;
use crate::upstream::passing::keep_what_passes;
use crate::upstream::refusal::{is_away, retry_after, retryable};
use crate::upstream::target::Target;

/// How long the body of a refusal is waited for: it changes nothing of what follows.
const REFUSAL: Duration = Duration::from_secs(5);

/// What came of a job's attempts.
pub(super) enum Ended {
    /// The job's end.
    With(Outcome),
    /// A failure after which it is tried again.
    Again(Failure),
    /// Refused for the provider's rate; it may come back after so long.
    Later(Duration),
}

/// An attempt that failed.
pub(super) struct Failure {
    /// Why.
    pub error: JobError,
    /// What was answered.
    pub answer: Option<StoredAnswer>,
    /// How long the provider asks to be left alone.
    pub rest: Option<Duration>,
    /// The provider was there for nobody: it did nothing for the call.
    pub away: bool,
}

impl Failure {
    fn broken(error: JobError) -> Ended {
        Ended::Again(Self {
            error,
            answer: None,
            rest: None,
            away: false,
        })
    }

    /// An answer with a status that is tried again.
    fn refused(status: u16, answer: Option<StoredAnswer>, rest: Option<Duration>) -> Ended {
        Ended::Again(Self {
            error: JobError::new("provider_error", format!("the provider answered {status}")),
            answer,
            rest,
            away: is_away(status),
        })
    }
}

/// What became of a job's attempts, and whose end it is.
type Ending = (Ended, Option<Arc<Target>>);

/// A job's attempts, which go on as long as somebody waits for them, whatever it is that is waited for.
pub(super) struct Driven {
    run: Run,
    tape: Arc<Tape>,
    attempts: MaybeDone<BoxFuture<'static, Ending>>,
}

impl Driven {
    /// Begins to drive them, until the job's deadline at most.
    pub fn new(
        run: Run,
        attempts: Attempts,
        limit: usize,
        tape: Arc<Tape>,
        until: Instant,
    ) -> Self {
        let written = tape.clone();
        let driving = async move {
            tokio::select! {
                biased;
                () = sleep_until(until) => (Ended::With(Outcome::expired()), None),
                ended = drive(attempts, limit, &written) => ended,
            }
        };
        Self {
            run,
            tape,
            attempts: maybe_done(driving.boxed()),
        }
    }

    /// Resolves once they have ended; their end is kept. Never, where there are none any more.
    pub async fn go_on(this: &mut Option<Self>) {
        match this {
            Some(driven) if matches!(driven.attempts, MaybeDone::Future(_)) => {
                (&mut driven.attempts).await;
            }
            _ => pending().await,
        }
    }

    /// Whose run it is, what is read of it, and its end.
    pub fn into_parts(self) -> (Run, Arc<Tape>, impl Future<Output = Ending>) {
        let mut attempts = self.attempts;
        let ended = async move {
            (&mut attempts).await;
            let ended = Pin::new(&mut attempts).take_output();
            ended.expect("what was awaited is done")
        };
        (self.run, self.tape, ended)
    }
}

/// Runs attempts side by side until one has a whole answer, or none is left. None waits for
/// another's bytes: one that stops within does not hold up the others. Says whose end it is.
async fn drive(attempts: Attempts, limit: usize, tape: &Arc<Tape>) -> Ending {
    // They are few, so each is looked at whenever one of them has news.
    let each = attempts.into_running().map(|one| {
        let target = one.target().clone();
        (Box::pin(follow(one, limit, tape.writer())), target)
    });
    let mut running: SmallVec<[_; 2]> = each.collect();
    let none = JobError::new("provider_unreachable", "there is no attempt");
    let mut last = (Failure::broken(none), None);
    while !running.is_empty() {
        let ended = poll_fn(|context| {
            for at in 0..running.len() {
                if let Poll::Ready(ended) = running[at].0.as_mut().poll(context) {
                    let (_, target) = running.swap_remove(at);
                    return Poll::Ready((ended, Some(target)));
                }
            }
            Poll::Pending
        });
        let ended = ended.await;
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
        Verdict::Answer | Verdict::Told => keep(attempt, limit, Some(writer)).await,
        // Where to wait is of no use, it counts as an attempt that failed.
        Verdict::Refused(429, rest) if !attempt.has_last_word() => {
            let rest = attempt.target().provider.quota.rest(rest);
            // Read to its end, so that its connection can be used again.
            let _ = timeout(REFUSAL, keep(attempt, limit, None)).await;
            Ended::Later(rest)
        }
        Verdict::Refused(status, rest) => {
            let rest = rest.map(|rest| attempt.target().provider.quota.rest(Some(rest)));
            let answer = match timeout(REFUSAL, keep(attempt, limit, None)).await {
                Ok(Ended::With(outcome)) => outcome.answer,
                Ok(Ended::Again(failure)) => failure.answer,
                Ok(Ended::Later(_)) | Err(_) => None,
            };
            Failure::refused(status, answer, rest)
        }
        Verdict::Broken(why) => Ended::Again(Failure {
            error: JobError::new("provider_unreachable", why.to_string()),
            answer: None,
            rest: None,
            away: matches!(why, Broken::Connect(_)),
        }),
    }
}

/// Reads an answer to its end.
async fn keep(mut attempt: Box<Attempt>, limit: usize, writer: Option<&Writer>) -> Ended {
    let Some(head) = attempt.take_head() else {
        return Failure::broken(JobError::new("provider_unreachable", "there is no answer"));
    };
    let readable = head.status.is_success() && is_readable(&head.headers);
    let writer = writer.filter(|_| readable);
    let (mut body, mut timing) = (BytesMut::new(), Timing::default());
    while let Some(frame) =
        poll_fn(|context| attempt.poll_frame(context, &mut Now::default())).await
    {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    // What is too long is not shown either.
                    if let Some(writer) = writer.filter(|_| body.len() + data.len() <= limit) {
                        writer.write(&body, data);
                    }
                    body.extend_from_slice(data);
                    if readable && !data.is_empty() {
                        timing.mark(body.len(), attempt.age());
                    }
                }
            }
            Err(why) => {
                let message = format!("the provider broke off: {why}");
                return Failure::broken(JobError::new("provider_unreachable", &message));
            }
        }
        if body.len() > limit {
            let message = format!("the answer is longer than limits.answer ({limit} bytes)");
            return Ended::With(Outcome::failed(
                JobError::new("answer_too_large", &message),
                None,
            ));
        }
    }
    let rest = retry_after(&head.headers, SystemTime::now());
    let rest = rest.map(|rest| attempt.target().provider.quota.rest(Some(rest)));
    let mut headers = head.headers;
    keep_what_passes(&mut headers);
    headers.remove(CONTENT_LENGTH);
    let status = head.status.as_u16();
    let answer = Some(StoredAnswer {
        status,
        headers: lines(&headers),
        body: body.freeze(),
        timing: timing.to_text(),
    });
    if attempt.told_failure() {
        // Its status says that all is well: it is no result of a job that fails.
        let why = "the provider's stream told of an error, or of nothing";
        return Failure::broken(JobError::new("provider_error", why));
    }
    if head.status.is_success() {
        return Ended::With(Outcome {
            status: Status::Succeeded,
            answer,
            error: None,
        });
    }
    if retryable(status) {
        return Failure::refused(status, answer, rest);
    }
    let why = format!("the provider answered {status}");
    Ended::With(Outcome::failed(
        JobError::new("provider_error", &why),
        answer,
    ))
}
