//! One request to an OTLP receiver (OTLP 1.x): gRPC, or protobuf over HTTP.
//!
//! Promises: it ends within `traces.timeout`; of the answer at most 64 KiB are read; says whether to
//! send again is any use. The secrets in its headers appear nowhere else.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tokio::time::{Instant, timeout};

use crate::config::{self, Dialect, Protocol, TraceProtocol, Traces};
use crate::upstream::body::OutBody;
use crate::upstream::pool::{Lease, SendError};
use crate::upstream::provider::{Ground, Provider};
use crate::upstream::refusal::retry_after;

const GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP: &str = "/v1/traces";

/// Bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

/// Bytes before a message of gRPC's: whether it is compressed, and how long it is.
const FRAME: usize = 5;

/// Which connections are used: beyond every worker's, so the jobs'.
const POOL: usize = usize::MAX;

/// Where spans go.
pub(super) struct Receiver {
    /// It is reached as a provider is.
    provider: Provider,
    protocol: TraceProtocol,
    headers: HeaderMap,
    path: PathAndQuery,
    timeout: Duration,
}

/// Why spans were not taken.
pub(super) enum Trouble {
    /// They may be taken later, after so long.
    Passing(String, Option<Duration>),
    /// They will never be.
    Lasting(String),
}

impl Trouble {
    pub(super) fn says(&self) -> &str {
        match self {
            Self::Passing(why, _) | Self::Lasting(why) => why,
        }
    }
}

/// Statuses of gRPC's after which the specification has a request sent again: CANCELLED,
/// DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED (it may say when), ABORTED, OUT_OF_RANGE, UNAVAILABLE,
/// DATA_LOSS.
const AGAIN: [&str; 7] = ["1", "4", "8", "10", "11", "14", "15"];

impl Receiver {
    pub(super) fn new(endpoint: &str, config: &Traces, ground: &Ground) -> Result<Self, String> {
        let grpc = config.protocol == TraceProtocol::Grpc;
        let settings = config::Provider {
            base_url: endpoint.to_owned(),
            dialect: Dialect::Plain,
            api_key: None,
            protocol: if grpc {
                Protocol::Http2
            } else {
                Protocol::Auto
            },
            warm_connections: 0,
            idle_connections: 1,
            idle_timeout: config::Period::from_secs(90),
            ca: config.ca.clone(),
            client_cert: config.client_cert.clone(),
            quota: config::Quota::default(),
            concurrency: config::Concurrency::default(),
        };
        let mut headers = HeaderMap::new();
        for (name, source) in &config.headers {
            let told = |why: &dyn std::fmt::Display| format!("traces.headers.{name}: {why}");
            let name: HeaderName = name.parse().map_err(|why| told(&why))?;
            let secret = source.read().map_err(|why| told(&why))?;
            let mut value = HeaderValue::from_str(secret.expose())
                .map_err(|_| told(&"it holds characters that no header can carry"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let (kind, path) = if grpc {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            ("application/grpc", GRPC)
        } else {
            ("application/x-protobuf", HTTP)
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let agent = concat!("shunt/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let provider = Provider::new("traces", &settings, ground)?;
        let path = provider.path(&PathAndQuery::from_static(path));
        Ok(Self {
            path: path.map_err(|why| format!("traces.endpoint: {why}"))?,
            provider,
            protocol: config.protocol,
            headers,
            timeout: config.timeout.get(),
        })
    }

    /// Closes connections that are idle for too long.
    pub(super) fn tidy(&self) {
        self.provider.pool(POOL).tidy();
    }

    /// Sends spans; gives how many of them were rejected.
    pub(super) async fn takes(&self, body: Bytes) -> Result<u64, Trouble> {
        let sent = timeout(self.timeout, self.send(body)).await;
        sent.unwrap_or_else(|_| Err(passing(format!("no answer within {:?}", self.timeout))))
    }

    async fn send(&self, body: Bytes) -> Result<u64, Trouble> {
        let mut again = false;
        let (response, lease) = loop {
            let pool = self.provider.pool(POOL);
            let lease = pool.checkout(self.timeout).await;
            let mut lease = lease.map_err(|why| passing(why.to_string()))?;
            let request = self.request(body.clone(), &lease);
            match lease.send(request?).await {
                Ok(response) => break (response, lease),
                // The connection was closed while it was idle.
                Err(SendError::NotSent(_)) if !again => again = true,
                Err(SendError::NotSent(_)) => return Err(passing("connections close".into())),
                Err(SendError::Broken(why)) => return Err(passing(why.to_string())),
            }
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER).collect().await;
        let body = body.map_err(|why| passing(why.to_string()))?;
        lease.finish(Instant::now());
        let trailers = body.trailers().cloned().unwrap_or_default();
        let body = body.to_bytes();
        if !head.status.is_success() {
            return Err(refused(head.status, &head.headers));
        }
        match self.protocol {
            TraceProtocol::Http => Ok(rejected(&body)),
            TraceProtocol::Grpc => {
                // An answer without a message has its status in its head.
                let status = trailers.get("grpc-status");
                let status = status.or_else(|| head.headers.get("grpc-status"));
                match status.and_then(|status| status.to_str().ok()) {
                    Some("0") => Ok(rejected(body.get(FRAME..).unwrap_or_default())),
                    Some(code) => Err(said(code)),
                    None => Err(passing("the answer has no status of gRPC's".into())),
                }
            }
        }
    }

    fn request(&self, body: Bytes, lease: &Lease) -> Result<Request<OutBody>, Trouble> {
        let uri = self.provider.uri(self.path.clone(), lease.is_http2());
        let mut request = Request::new(OutBody::kept(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.map_err(|why| Trouble::Lasting(why.to_string()))?;
        *request.headers_mut() = self.headers.clone();
        self.provider.address(request.headers_mut());
        if lease.is_http2() {
            request.headers_mut().remove(HOST);
        }
        Ok(request)
    }
}

fn passing(why: String) -> Trouble {
    Trouble::Passing(why, None)
}

fn said(code: &str) -> Trouble {
    let why = format!("it answered with the gRPC status {code}");
    if AGAIN.contains(&code) {
        return passing(why);
    }
    Trouble::Lasting(why)
}

/// An answer over HTTP that is none of success. Proxies answer so before a gRPC receiver, too.
fn refused(status: StatusCode, headers: &HeaderMap) -> Trouble {
    let why = format!("it answered {status}");
    match status.as_u16() {
        429 | 502 | 503 | 504 => Trouble::Passing(why, retry_after(headers, SystemTime::now())),
        _ => Trouble::Lasting(why),
    }
}

/// How many spans an answer says were not taken.
fn rejected(answer: &[u8]) -> u64 {
    let told = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let partial = told.partial_success.unwrap_or_default();
    u64::try_from(partial.rejected_spans).unwrap_or(0)
}
