//! What is traced of a call after it became a job: each run of it, and each of its callbacks.
//!
//! The job's request carries `traceparent`, which is kept with it: so whichever gateway runs it knows
//! its trace. Callbacks know it as long as the gateway that ran the job remembers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::content::Content;
use super::context::{Context, SAMPLED, TRACESTATE, span_id};
use super::{Journal, Traced};
use crate::upstream::peek::Peek;
use crate::upstream::target::Target;

/// A job's run.
pub struct Run {
    journal: Arc<Journal>,
    pub(super) context: Context,
    pub(super) state: Option<HeaderValue>,
    pub(super) span: u64,
    pub(super) began: SystemTime,
    at: Instant,
    took: Duration,
    pub(super) job: Box<str>,
    pub(super) route: Box<str>,
    pub(super) path: Box<str>,
    pub(super) model: Option<Box<str>>,
    pub(super) number: u32,
    /// What it says and was answered, where that is to be told.
    pub(super) content: Option<Box<Content>>,
    /// Where its attempts go, and their spans.
    pub(super) attempts: SmallVec<[(Arc<Target>, u64); 1]>,
    /// Whose answer decided.
    pub(super) by: Option<usize>,
    pub(super) result: &'static str,
    pub(super) status: Option<u16>,
}

/// What a run is of.
pub struct Of<'a> {
    /// The job.
    pub job: &'a str,
    /// Its route.
    pub route: &'a str,
    /// Its request's path.
    pub path: &'a str,
    /// Its request's body.
    pub body: &'a [u8],
    /// Which attempt of the job it is.
    pub number: u32,
    /// It will be called back.
    pub called_back: bool,
}

impl Journal {
    /// A job runs that was kept with these headers; `None`: it is not traced.
    pub fn run(self: &Arc<Self>, of: &Of<'_>, headers: &HeaderMap) -> Option<Box<Run>> {
        self.traces.as_ref()?;
        let context = Context::of(headers)?;
        if of.called_back {
            self.remember(of.job, context);
        }
        context.is_sampled().then(|| {
            let model = Peek::read(of.body).ok().and_then(|peek| peek.model);
            let mut content = self.content(of.route);
            if let Some(content) = &mut content {
                content.asks(Some(of.body));
            }
            Box::new(Run {
                journal: self.clone(),
                context,
                state: headers.get(TRACESTATE).cloned(),
                span: span_id(),
                began: SystemTime::now(),
                at: Instant::now(),
                took: Duration::ZERO,
                job: of.job.into(),
                route: of.route.into(),
                path: of.path.into(),
                model: model.map(Into::into),
                number: of.number,
                content,
                attempts: SmallVec::new(),
                by: None,
                result: "",
                status: None,
            })
        })
    }

    /// A callback is sent; `None`: callbacks are not traced.
    pub fn delivery(
        self: &Arc<Self>,
        job: &str,
        route: &str,
        (host, port): (&str, u16),
        number: u32,
    ) -> Option<Box<Delivery>> {
        self.traces.as_ref()?;
        let mut context = self.remembered(job).unwrap_or_else(Context::begin);
        // They are few, and kept with their jobs.
        context.flags |= SAMPLED;
        Some(Box::new(Delivery {
            journal: self.clone(),
            context,
            span: span_id(),
            began: SystemTime::now(),
            at: Instant::now(),
            took: Duration::ZERO,
            job: job.into(),
            route: route.into(),
            host: host.into(),
            port,
            number,
            status: None,
            error: None,
        }))
    }

    pub(super) fn leave(&self, traced: Traced, spans: usize) {
        if let Some(traces) = &self.traces {
            traces.queue.leave(traced, spans);
        }
    }
}

impl Run {
    /// An attempt of it begins, or goes on; gives what its request says of the trace.
    pub fn attempts(&mut self, target: &Arc<Target>) -> HeaderValue {
        let span = span_id();
        self.attempts.push((target.clone(), span));
        Context {
            span,
            ..self.context
        }
        .header()
    }

    /// What it was answered, if that is not compressed.
    pub fn answered(&mut self, body: &[u8], compressed: bool) {
        match &mut self.content {
            Some(content) if compressed => content.is_compressed(),
            Some(content) => _ = content.answers(body),
            None => {}
        }
    }

    /// What it said and was answered, and the attempt whose span has it: which decided, else the last.
    pub(super) fn told(&self) -> Option<(usize, &Content)> {
        let last = self.attempts.len().checked_sub(1)?;
        Some((self.by.unwrap_or(last), self.content.as_deref()?))
    }

    /// It is over. `by`: whose answer decided.
    pub fn ends(
        mut self: Box<Self>,
        by: Option<&Arc<Target>>,
        result: &'static str,
        status: Option<u16>,
    ) {
        let mut all = self.attempts.iter();
        self.by = by.and_then(|by| all.rposition(|(one, _)| Arc::ptr_eq(one, by)));
        (self.result, self.status) = (result, status);
        self.took = self.at.elapsed();
        let (journal, spans) = (self.journal.clone(), 1 + self.attempts.len());
        journal.leave(Traced::Run(self), spans);
    }

    pub(super) fn ended(&self) -> SystemTime {
        self.began + self.took
    }

    /// What went wrong.
    pub(super) fn error(&self) -> Option<&'static str> {
        match self.result {
            "succeeded" | "cancelled" | "taken" => None,
            wrong => Some(wrong),
        }
    }
}

/// A callback.
pub struct Delivery {
    journal: Arc<Journal>,
    pub(super) context: Context,
    pub(super) span: u64,
    pub(super) began: SystemTime,
    at: Instant,
    pub(super) took: Duration,
    pub(super) job: Box<str>,
    pub(super) route: Box<str>,
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) number: u32,
    pub(super) status: Option<u16>,
    pub(super) error: Option<&'static str>,
}

impl Delivery {
    /// What its request says of the trace.
    pub fn header(&self) -> HeaderValue {
        Context {
            span: self.span,
            ..self.context
        }
        .header()
    }

    /// It is over.
    pub fn ends(mut self: Box<Self>, status: Option<u16>, error: Option<&'static str>) {
        (self.status, self.error) = (status, error);
        self.took = self.at.elapsed();
        let journal = self.journal.clone();
        journal.leave(Traced::Delivery(self), 1);
    }
}
