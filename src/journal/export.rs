//! Tells a receiver of spans, some hundred at a time.
//!
//! Promises: at most one request under way and one batch in memory besides the queue; a batch that is
//! not taken is sent again a few times, with growing waits or when the receiver says, and then left
//! out and counted; at the end what waits is sent once.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use metrics::Counter;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::otlp::{Receiver, Trouble};
use super::span::{Spans, attribute, begin, field};
use super::{Journal, Traces, dropped_spans, exported, spans};
use crate::cold::history::this_gateway;
use crate::config::{self, TraceProtocol};
use crate::meter::Meter;
use crate::upstream::provider::Ground;

/// How often spans are taken, and how often those are sent that are no whole batch: what is taken soon is
/// written on sheets that are warm yet, and a receiver is not asked for each handful.
const LOOK: Duration = Duration::from_millis(50);
const SEND: Duration = Duration::from_millis(500);

/// Fields of OTLP 1.x: `ExportTraceServiceRequest.resource_spans`, `ResourceSpans.scope_spans`.
const RESOURCE_SPANS: u8 = 1;
const SCOPE_SPANS: u8 = 2;

/// Spans of one request, and its bytes; a sheet more at most. Some 400 KiB, with
/// prompts and answers at most 1 MiB and what a call may have of those: receivers take 4 MiB. Of prompts
/// and answers as much is read at a time, written or not: what else runs here goes on in between.
const BATCH: usize = 512;
const BYTES: usize = 1 << 20;

/// Waits before a batch is sent again.
const WAITS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Longest wait that a receiver may ask for.
const LONGEST: Duration = Duration::from_secs(30);

/// How often at most it is said that spans are left out.
const SAID: Duration = Duration::from_mins(1);

/// Tells the receiver.
pub struct Exporter {
    receiver: Receiver,
    /// As gRPC frames it.
    framed: bool,
    /// What stands before the spans: who tells of them, as an encoded `ResourceSpans`, and what saw
    /// them, as an encoded `ScopeSpans`.
    resource: Vec<u8>,
    scope: Vec<u8>,
    /// Memory of the last request, used again for the next one.
    body: BytesMut,
    exported: Counter,
    failed: Counter,
    rejected: Counter,
    said: Option<Instant>,
}

impl Exporter {
    /// What a configuration wants; `None`: no traces.
    ///
    /// # Errors
    /// A sentence: a secret or a certificate cannot be read.
    pub fn new(
        config: &config::Traces,
        ground: &Ground,
        meter: &Meter,
    ) -> Result<Option<Self>, String> {
        let Some(endpoint) = &config.endpoint else {
            return Ok(None);
        };
        let version = env!("CARGO_PKG_VERSION");
        let resource = ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    attribute("service.name", &config.service),
                    attribute("service.version", version),
                    attribute("service.instance.id", this_gateway()),
                ],
                ..Resource::default()
            }),
            ..ResourceSpans::default()
        };
        let scope = ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "shunt".into(),
                version: version.into(),
                ..InstrumentationScope::default()
            }),
            ..ScopeSpans::default()
        };
        Ok(Some(Self {
            receiver: Receiver::new(endpoint, config, ground)?,
            framed: config.protocol == TraceProtocol::Grpc,
            resource: resource.encode_to_vec(),
            scope: scope.encode_to_vec(),
            body: BytesMut::new(),
            exported: exported(meter),
            failed: dropped_spans(meter, "failed"),
            rejected: dropped_spans(meter, "rejected"),
            said: None,
        }))
    }

    /// Tells what is left in the journal until it is to end, and then what waits there.
    pub async fn run(mut self, journal: Arc<Journal>, end: CancellationToken) {
        let Some(traces) = &journal.traces else {
            return;
        };
        let (mut batch, mut due) = (Spans::default(), Instant::now());
        loop {
            // Asked before anything is taken: what was left until then is told.
            let last = end.is_cancelled();
            take(traces, &mut batch);
            if is_full(&batch) || batch.count > 0 && (last || Instant::now() >= due) {
                self.tell(&batch, &end).await;
                batch.clear();
                due = Instant::now() + SEND;
                continue;
            }
            if last {
                return;
            }
            self.receiver.tidy();
            tokio::select! {
                () = sleep(LOOK) => {}
                () = end.cancelled() => {}
            }
        }
    }

    async fn tell(&mut self, batch: &Spans, end: &CancellationToken) {
        let count = batch.count as u64;
        let body = self.encoded(batch);
        let mut waits = WAITS.iter();
        let trouble = loop {
            let trouble = match self.receiver.takes(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.exported.increment(count - rejected);
                    self.rejected.increment(rejected);
                    return;
                }
                Err(trouble) => trouble,
            };
            let (Trouble::Passing(_, asked), Some(wait), false) =
                (&trouble, waits.next(), end.is_cancelled())
            else {
                break trouble;
            };
            // Gateways that lost the same receiver do not return together.
            let wait = wait.mul_f64(0.5 + rand::random::<f64>());
            let wait = asked.map_or(wait, |asked| asked.min(LONGEST));
            tokio::select! {
                () = sleep(wait) => {}
                () = end.cancelled() => {}
            }
        };
        self.failed.increment(count);
        let now = Instant::now();
        if self.said.is_none_or(|said| now - said >= SAID) {
            self.said = Some(now);
            let why = trouble.says();
            tracing::error!(
                why,
                "traces.endpoint does not take spans; they are left out"
            );
        }
    }

    /// An encoded `ExportTraceServiceRequest`.
    fn encoded(&mut self, spans: &Spans) -> Bytes {
        let in_scope = self.scope.len() + spans.encoded.len();
        let in_resource = self.resource.len() + field(in_scope);
        let length = field(in_resource);
        let body = &mut self.body;
        body.reserve(length + 5);
        if self.framed {
            // Not compressed; so long.
            body.put_u8(0);
            body.put_u32(u32::try_from(length).expect("a batch is far from 4 GiB"));
        }
        begin(RESOURCE_SPANS, in_resource, body);
        body.put_slice(&self.resource);
        begin(SCOPE_SPANS, in_scope, body);
        body.put_slice(&self.scope);
        body.put_slice(&spans.encoded);
        body.split().freeze()
    }
}

fn is_full(batch: &Spans) -> bool {
    batch.count >= BATCH || batch.encoded.len().max(batch.read) >= BYTES
}

/// Fills a batch, in turns from the sheets and from the queue.
fn take(traces: &Traces, batch: &mut Spans) {
    while !is_full(batch) {
        let (sheet, traced) = (traces.sheets.take_one(), traces.queue.waiting.pop());
        if sheet.is_none() && traced.is_none() {
            return;
        }
        if let Some(traced) = traced {
            spans::of(&traced, batch);
        }
        if let Some(sheet) = sheet {
            batch.add(&sheet);
            traces.sheets.give_back(sheet);
        }
    }
}
