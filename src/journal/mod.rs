//! What is told of single calls: the access log, and traces.
//!
//! Promises: a call leaves a line and, where it is traced, its spans on its thread's sheets, without
//! waiting for anyone; where too many wait it is left out and counted. I/O is others', later, and so is
//! what prompts and answers say: such a call waits in a bounded queue. Whoever is slow there holds no call
//! up. Off, there is no timeline at all. Prompts and answers are held only of routes that
//! `traces.content` names.

mod call;
mod content;
pub mod context;
mod export;
mod forms;
mod json;
mod line;
mod log;
pub mod messages;
mod otlp;
mod sheets;
mod span;
mod spans;
pub mod timeline;
pub mod work;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_queue::ArrayQueue;
use http::{HeaderMap, HeaderValue, Request};
use metrics::Counter;
use tokio::time::Instant;

use self::call::Call;
use self::content::{Content, Contents};
use self::context::{Context, SAMPLED, TRACESTATE, Told};
pub use self::export::Exporter;
pub use self::log::Log;
use self::sheets::Sheets;
use self::timeline::Timeline;
use self::work::{Delivery, Run};
use crate::config::Config;
use crate::meter::Meter;

/// Where calls are left.
pub struct Journal {
    log: Option<Lines>,
    traces: Option<Traces>,
}

/// Lines of the access log.
struct Lines {
    sheets: Sheets,
    format: line::Format,
}

/// What waits to be told, and what was left out because it was too much.
struct Queue<T> {
    waiting: ArrayQueue<T>,
    full: Counter,
}

impl<T> Queue<T> {
    fn new(most: usize, full: Counter) -> Self {
        Self {
            waiting: ArrayQueue::new(most),
            full,
        }
    }

    /// Leaves something that counts so much. Nobody is woken for it: whoever reads looks by itself.
    fn leave(&self, one: T, counts: usize) {
        if self.waiting.push(one).is_err() {
            self.full.increment(counts as u64);
        }
    }
}

/// What is traced, and is looked at only where it is told: jobs' parts, and calls with their content.
enum Traced {
    Call(Box<Call>),
    Run(Box<Run>),
    Delivery(Box<Delivery>),
}

struct Traces {
    /// Spans of calls without content, encoded.
    sheets: Sheets,
    queue: Queue<Traced>,
    /// Traces whose random part is below this are kept.
    below: u64,
    /// Whose prompts and answers are told, too.
    contents: Option<Contents>,
    /// The places in their traces of jobs that will be called back.
    jobs: Mutex<Jobs>,
}

/// The newest of them.
#[derive(Default)]
struct Jobs {
    known: HashMap<Box<str>, Context>,
    order: VecDeque<Box<str>>,
}

/// So many of them.
const JOBS: usize = 16_384;

/// Bits of a trace's id that are random (W3C Trace Context level 2; OpenTelemetry's consistent
/// probability sampling).
const RANDOM_BITS: u32 = 56;

/// Lines that were left out.
fn dropped_lines(meter: &Meter, reason: &str) -> Counter {
    meter.counter("shunt_access_log_dropped_total", &[("reason", reason)])
}

/// Spans that were left out.
fn dropped_spans(meter: &Meter, reason: &str) -> Counter {
    meter.counter("shunt_spans_dropped_total", &[("reason", reason)])
}

/// Spans that the receiver took.
fn exported(meter: &Meter) -> Counter {
    meter.counter("shunt_spans_exported_total", &[])
}

impl Journal {
    /// What a configuration wants told; `None`: nothing.
    pub fn new(config: &Config, meter: &Meter) -> Option<Arc<Self>> {
        let lines = ["full", "unwritten"].map(|reason| dropped_lines(meter, reason));
        let spans = ["full", "failed", "rejected"].map(|reason| dropped_spans(meter, reason));
        let _ = exported(meter);
        let ([full, _], [too_many, ..]) = (lines, spans);
        let threads = meter.shards();
        let (log, traces) = (&config.access_log, &config.traces);
        let journal = Self {
            log: line::format(log).map(|format| Lines {
                sheets: Sheets::new(threads, log.queue, full),
                format,
            }),
            traces: traces.endpoint.is_some().then(|| Traces {
                sheets: Sheets::new(threads, traces.queue, too_many.clone()),
                queue: Queue::new(traces.queue, too_many),
                below: below(traces.sample),
                contents: Contents::new(traces),
                jobs: Mutex::default(),
            }),
        };
        let on = journal.log.is_some() || journal.traces.is_some();
        on.then(|| Arc::new(journal))
    }

    /// The same, if there are traces.
    pub fn tracing(self: &Arc<Self>) -> Option<Arc<Self>> {
        self.traces.is_some().then(|| self.clone())
    }

    /// A call arrived.
    pub fn begin<B>(self: &Arc<Self>, request: &Request<B>, arrived: Instant) -> Timeline {
        Timeline::begin(self.clone(), request, arrived)
    }

    /// Where a call stands in a trace. The share that is kept of those that begin here is drawn now,
    /// so that whoever is called from here keeps the same ones.
    fn context(&self, headers: &HeaderMap) -> (Option<Context>, Option<HeaderValue>) {
        let given = Context::of(headers);
        let Some(traces) = &self.traces else {
            return (given, None);
        };
        if given.is_some() {
            return (given, headers.get(TRACESTATE).cloned());
        }
        let mut context = Context::begin();
        if random_part(context.trace) < traces.below {
            context.flags |= SAMPLED;
        }
        (Some(context), None)
    }

    /// What a request says of its trace that is sent within this span, where that is the gateway's
    /// to say.
    fn says(&self, context: Option<Context>, span: u64) -> Option<Told> {
        self.traces.as_ref()?;
        Some(Told::within(span, context?))
    }

    /// Takes what waits to be written.
    #[cfg(test)]
    pub fn left(&self) -> Vec<u8> {
        let mut waiting = Vec::new();
        if let Some(log) = &self.log {
            log.sheets.take(&mut waiting);
        }
        waiting.into_iter().flat_map(|sheet| sheet.text).collect()
    }

    /// Where a prompt and its answer are kept, if they are this route's to tell.
    fn content(&self, route: &str) -> Option<Box<Content>> {
        self.traces.as_ref()?.contents.as_ref()?.of(route)
    }

    /// Tells a call that is over.
    fn tell(call: Box<Call>) {
        let Self { log, traces } = &*call.journal;
        if let Some(log) = log {
            log.sheets.add(|text| {
                (log.format)(&call, text);
                1
            });
        }
        let Some(traces) = traces.as_ref().filter(|_| call.is_kept()) else {
            return;
        };
        if call.told().is_none() {
            traces.sheets.add(|text| spans::onto(&call, text));
        } else {
            let (journal, count) = (call.journal.clone(), call.spans());
            journal.leave(Traced::Call(call), count);
        }
    }

    /// Keeps a job's place in its trace for its callback.
    fn remember(&self, job: &str, context: Context) {
        let Some(traces) = &self.traces else { return };
        let mut jobs = traces.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.known.insert(job.into(), context).is_some() {
            return;
        }
        jobs.order.push_back(job.into());
        if jobs.order.len() > JOBS
            && let Some(oldest) = jobs.order.pop_front()
        {
            jobs.known.remove(&oldest);
        }
    }

    fn remembered(&self, job: &str) -> Option<Context> {
        let jobs = &self.traces.as_ref()?.jobs;
        let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.known.get(job).copied()
    }
}

fn random_part(trace: u128) -> u64 {
    let bits = trace & ((1 << RANDOM_BITS) - 1);
    u64::try_from(bits).expect("they are fewer than 64")
}

/// Below what a random part is so often.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share from 0 to 1 of 2^56"
)]
fn below(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * (1u64 << RANDOM_BITS) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;

    fn journal(traces: bool) -> Arc<Journal> {
        let mut config = Config::default();
        config.access_log.format = LogFormat::Json;
        config.traces.endpoint = traces.then(|| "http://127.0.0.1:4317".into());
        config.traces.sample = 0.25;
        Journal::new(&config, &Meter::new(1)).expect("something is on")
    }

    fn call(journal: &Arc<Journal>, traceparent: Option<&'static str>) -> Timeline {
        let mut request = Request::new(());
        if let Some(given) = traceparent {
            let given = HeaderValue::from_static(given);
            request.headers_mut().insert("traceparent", given);
        }
        journal.begin(&request, Instant::now())
    }

    #[test]
    fn of_the_calls_that_begin_a_trace_about_the_share_is_kept() {
        let journal = journal(true);
        let drawn = (0..8_000).map(|_| journal.context(&HeaderMap::new()).0);
        let kept = drawn.flatten().filter(Context::is_sampled).count();
        // 2,000 are expected; five standard deviations either way.
        assert!((1_800..=2_200).contains(&kept), "{kept}");
        assert_eq!([below(0.0), below(1.0)], [0, 1 << RANDOM_BITS]);
    }

    #[test]
    fn a_callers_word_on_what_is_kept_stands_for_calls_that_nothing_befell() {
        let journal = journal(true);
        let traced = || {
            let sheets = &journal.traces.as_ref().unwrap().sheets;
            sheets.take_one().map_or(0, |sheet| sheet.count)
        };
        for (flags, kept) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", 0),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 1),
        ] {
            drop(call(&journal, Some(flags)));
            assert_eq!(traced(), kept, "{flags}");
        }
        let mut failed = call(
            &journal,
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        );
        failed.because("budget_exceeded");
        failed.refused(504, "budget_exceeded");
        assert_eq!(traced(), 1);
    }

    #[test]
    fn each_call_is_a_line() {
        let journal = journal(false);
        for _ in 0..5 {
            drop(call(&journal, None));
        }
        let text = String::from_utf8(journal.left()).unwrap();
        assert_eq!(text.lines().count(), 5);
    }

    #[test]
    fn only_so_many_jobs_are_remembered_and_those_are_the_newest() {
        let journal = journal(true);
        let context = Context::begin();
        for job in 0..=JOBS {
            journal.remember(&job.to_string(), context);
        }
        assert_eq!(journal.remembered("0"), None);
        assert_eq!(journal.remembered("1"), Some(context));
        assert_eq!(journal.remembered(&JOBS.to_string()), Some(context));
    }
}
