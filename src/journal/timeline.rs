//! What happened to one call, and when; written while it goes on.
//!
//! Promises: a call is told once, whatever becomes of it: dropping its timeline tells it. Only the
//! call's own task writes; nothing here is formatted, locked or waited for. Holds no header but the
//! trace's and no query; bodies only of routes whose `content` is asked for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Request};
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Journal;
pub use super::call::Kind;
use super::call::{Attempted, Call, Came};
use super::content::Content;
use super::context::{Context, SAMPLED, Told, span_id};
use crate::upstream::dialect::{Answers, Usage, answers};
use crate::upstream::media::is_encoded;
use crate::upstream::target::Target;

/// The status of a call whose caller left (nginx's).
pub const CALLER_LEFT: u16 = 499;

/// Pieces of an answer that may tell which model it is from: comments and the head of an event may be
/// pieces of their own.
const LOOKED_AT: u8 = 8;

/// Bytes of a path, and of a model's name, that are kept.
const LONGEST: usize = 256;

/// A call that is going on.
pub struct Timeline(Option<Box<Call>>);

/// How a call ended.
pub struct Ending {
    /// When.
    pub at: Instant,
    /// With which status.
    pub status: u16,
    /// As what it counts.
    pub outcome: &'static str,
    /// It counts as over its budget.
    pub over: bool,
    /// How long its caller waited for content.
    pub first_token: Option<Duration>,
    /// Whose answer it got.
    pub target: Option<Arc<Target>>,
}

fn shortened(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(LONGEST)].into()
}

impl Timeline {
    pub(super) fn begin<B>(journal: Arc<Journal>, request: &Request<B>, arrived: Instant) -> Self {
        let (context, state) = journal.context(request.headers());
        Self(Some(Box::new(Call {
            journal,
            context,
            state,
            span: span_id(),
            wall: SystemTime::now(),
            arrived,
            ended: arrived,
            method: request.method().clone(),
            path: shortened(request.uri().path()),
            id: None,
            key: None,
            route: None,
            model: None,
            streamed: false,
            budget: None,
            status: CALLER_LEFT,
            outcome: "cancelled",
            why: None,
            over: false,
            job: None,
            joined: None,
            target: None,
            attempts: SmallVec::new(),
            queued: Duration::ZERO,
            waits: None,
            upload: Duration::ZERO,
            own: None,
            first_token: None,
            passed_on: None,
            content: None,
            answered_by: None,
            unnamed: LOOKED_AT,
            usage: Usage::default(),
            handed_over: None,
            scope: None,
            silent: false,
        })))
    }

    fn call(&mut self) -> &mut Call {
        let call = self.0.as_deref_mut();
        call.expect("it is told only when it is dropped")
    }

    /// It was no call.
    pub fn forget(mut self) {
        self.call().silent = true;
    }

    /// It is one of a scope.
    pub fn is_of(&mut self, scope: CancellationToken) {
        self.call().scope = Some(scope);
    }

    /// How its caller hears of it.
    pub fn is_called(&mut self, id: &HeaderValue) {
        self.call().id = Some(id.clone());
    }

    /// Whose key it came with.
    pub fn came_with(&mut self, key: &str) {
        self.call().key = Some(key.into());
    }

    /// It has a route.
    pub fn takes(&mut self, route: &Arc<str>, model: Option<&str>, streamed: bool) {
        let call = self.call();
        call.route = Some(route.clone());
        call.content = call.journal.content(route);
        call.model = model.map(shortened);
        call.streamed = streamed;
    }

    /// In what time it is to be answered, and how long its caller took to send its body.
    pub fn has(&mut self, budget: Duration, upload: Duration) {
        let call = self.call();
        (call.budget, call.upload) = (Some(budget), upload);
    }

    /// Why it ends as it does; the first reason stands.
    pub fn because(&mut self, why: &'static str) {
        self.call().why.get_or_insert(why);
    }

    /// It is refused before it had a route.
    pub fn refused(mut self, status: u16, why: &'static str) {
        let call = self.call();
        call.ended = Instant::now();
        (call.status, call.outcome, call.why) = (status, "refused", Some(why));
    }

    /// It gets an answer that was another call's.
    pub fn joins(&mut self, by: &'static str) {
        self.call().joined = Some(by);
    }

    /// The gateway's own part is over.
    pub fn answers(&mut self, own: Duration) {
        self.call().own = Some(own);
    }

    /// What it asks; `None`: that passes on as it comes.
    pub fn asks(&mut self, body: Option<&[u8]>) {
        if let Some(content) = &mut self.call().content {
            content.asks(body);
        }
    }

    /// The head of its answer.
    pub fn is_answered(&mut self, headers: &HeaderMap) {
        if let Some(content) = &mut self.call().content
            && is_encoded(headers)
        {
            content.is_compressed();
        }
    }

    /// A piece of its answer passes; whether later ones are to be looked at, too.
    pub fn answer_passes(&mut self, piece: &[u8]) -> bool {
        let call = self.call();
        if call.journal.traces.is_none() {
            return false;
        }
        if call.unnamed > 0 {
            call.unnamed -= 1;
            match answers(piece) {
                Answers::Later => {}
                Answers::Nobody => call.unnamed = 0,
                Answers::Model(name) => {
                    call.answered_by = Some(name.into());
                    call.unnamed = 0;
                }
            }
        }
        let kept = |content: &mut Box<Content>| content.answers(piece);
        call.content.as_mut().is_some_and(kept) || call.unnamed > 0
    }

    /// What its answer told of tokens.
    pub fn used(&mut self, usage: Usage) {
        self.call().usage = usage;
    }

    /// It waits for a place.
    pub fn waits(&mut self, now: Instant) {
        self.call().waits = Some(now);
    }

    /// An attempt begins; gives what its request says of the trace, where that is the gateway's to say.
    pub fn attempts(&mut self, target: &Arc<Target>, kind: Kind, now: Instant) -> Option<Told> {
        let call = self.call();
        if let Some(since) = call.waits.take() {
            call.queued += now - since;
        }
        let span = span_id();
        call.attempts.push(Attempted {
            target: target.clone(),
            kind,
            started: now,
            first_content: None,
            ended: now,
            came: Came::Running,
            status: None,
            error: None,
            span,
        });
        call.says(span)
    }

    /// An attempt has an answer that is passed on; those that run beside it are cancelled.
    pub fn won(
        &mut self,
        number: usize,
        status: Option<u16>,
        first_content: Option<Instant>,
        now: Instant,
    ) {
        let call = self.call();
        call.passed_on = Some(number);
        for (at, one) in call.attempts.iter_mut().enumerate() {
            if at == number {
                (one.came, one.status, one.error) = (Came::Won, status, None);
                (one.first_content, one.ended) = (first_content, now);
            } else if one.came == Came::Running {
                (one.came, one.ended) = (Came::Lost, now);
            }
        }
    }

    /// An attempt has none.
    pub fn failed(
        &mut self,
        number: usize,
        status: Option<u16>,
        error: &'static str,
        now: Instant,
    ) {
        if let Some(one) = self.call().attempts.get_mut(number) {
            (one.came, one.status, one.ended) = (Came::Failed, status, now);
            one.error = Some(error);
        }
    }

    /// Content of the winner came.
    pub fn content_came(&mut self, at: Option<Instant>) {
        let mut all = self.call().attempts.iter_mut();
        if let Some(winner) = all.find(|one| one.came == Came::Won) {
            winner.first_content = winner.first_content.or(at);
        }
    }

    /// The answer broke off.
    pub fn broke_off(&mut self, why: &'static str) {
        self.because(why);
        let mut all = self.call().attempts.iter_mut();
        if let Some(winner) = all.find(|one| one.came == Came::Won) {
            (winner.came, winner.error) = (Came::Broke, Some(why));
        }
    }

    /// It becomes a job, and what runs goes on as that one's; gives what the job's request says of
    /// the trace.
    pub fn becomes(&mut self, job: &str, reason: &'static str, now: Instant) -> Option<Told> {
        let call = self.call();
        for one in &mut call.attempts {
            if one.came == Came::Running {
                (one.came, one.ended) = (Came::HandedOver, now);
            }
        }
        let span = span_id();
        call.handed_over = Some((now, span));
        (call.job, call.why) = (Some(job.into()), Some(reason));
        // A job is kept: so is what comes of it.
        let kept = call.context.map(|context| Context {
            flags: context.flags | SAMPLED,
            ..context
        });
        call.journal.says(kept, span)
    }

    /// It could not become one: what ran is cancelled.
    pub fn stays(&mut self) {
        let call = self.call();
        for one in &mut call.attempts {
            if one.came == Came::HandedOver {
                one.came = Came::Cancelled;
            }
        }
        (call.job, call.why, call.handed_over) = (None, None, None);
    }

    /// Its key stands for a job.
    pub fn is_told_of(&mut self, job: &str, reason: &'static str) {
        let call = self.call();
        (call.job, call.why) = (Some(job.into()), Some(reason));
    }

    /// It is over.
    pub fn ends(&mut self, ending: Ending) {
        let call = self.call();
        (call.ended, call.status, call.outcome) = (ending.at, ending.status, ending.outcome);
        call.first_token = ending.first_token.filter(|_| call.streamed);
        call.target = ending.target;
        call.left();
        let took = call.first_token.filter(|_| call.streamed);
        let took = took.unwrap_or(ending.at - call.arrived);
        let late = call.budget.is_some_and(|budget| took > budget);
        // What became a job for another reason had no time to be late.
        let late = late && call.job.is_none();
        call.over = ending.over || late || call.why == Some("budget_exceeded");
        if let Some(since) = call.waits.take() {
            call.queued += ending.at - since;
        }
        for one in &mut call.attempts {
            match one.came {
                Came::Won | Came::Broke => one.ended = ending.at,
                Came::Running => (one.came, one.ended) = (Came::Cancelled, ending.at),
                _ => {}
            }
            if call.outcome == "cancelled" && one.came == Came::Won {
                one.came = Came::Cancelled;
            }
        }
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        let Some(mut call) = self.0.take().filter(|call| !call.silent) else {
            return;
        };
        if call.ended == call.arrived {
            // Its caller left before it had a route.
            call.ended = Instant::now();
            call.left();
        }
        Journal::tell(call);
    }
}
