//! What is told of single calls: the access log.
//!
//! Promises: a call leaves its timeline in a bounded queue, with one addition and one exchange, and
//! goes on; where the queue is full it is left out and counted. Formatting and I/O are done by
//! others, later; whoever is slow there holds no call up. Off, there is no timeline at all.

pub mod context;
mod line;
mod log;
pub mod timeline;

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use http::{HeaderMap, HeaderValue, Request};
use metrics::Counter;
use tokio::time::Instant;

use self::context::{Context, TRACESTATE};
pub use self::log::Log;
use self::timeline::{Call, Timeline};
use crate::config::{Config, LogFormat};
use crate::meter::Meter;

/// Where calls are left.
pub struct Journal {
    log: Option<Queue<Arc<Call>>>,
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

    /// Leaves something. Nobody is woken for it: whoever reads looks by itself.
    fn leave(&self, one: T) {
        if self.waiting.push(one).is_err() {
            self.full.increment(1);
        }
    }
}

/// Lines that were left out.
fn dropped(meter: &Meter, reason: &str) -> Counter {
    meter.counter("shunt_access_log_dropped_total", &[("reason", reason)])
}

impl Journal {
    /// What a configuration wants told; `None`: nothing.
    pub fn new(config: &Config, meter: &Meter) -> Option<Arc<Self>> {
        let log = &config.access_log;
        let [full, _] = ["full", "unwritten"].map(|reason| dropped(meter, reason));
        let on = log.format != LogFormat::Off;
        on.then(|| {
            Arc::new(Self {
                log: Some(Queue::new(log.queue, full)),
            })
        })
    }

    /// A call arrived.
    pub fn begin<B>(self: &Arc<Self>, request: &Request<B>, arrived: Instant) -> Timeline {
        Timeline::begin(self.clone(), request, arrived)
    }

    /// Where a call stands in a trace.
    fn context(&self, headers: &HeaderMap) -> (Option<Context>, Option<HeaderValue>) {
        let _ = TRACESTATE;
        (Context::of(headers), None)
    }

    /// What a request says of its trace, where that is the gateway's to say.
    fn header(&self, _: Option<Context>, _: u64) -> Option<HeaderValue> {
        None
    }

    fn tell(&self, call: &Arc<Call>) {
        if let Some(log) = &self.log {
            log.leave(call.clone());
        }
    }
}
