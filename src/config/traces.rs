//! `[traces]`: spans of calls, told to an OpenTelemetry receiver.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::tls::ClientCertificate;
use super::values::{Period, SecretSource, Size};

/// Spans of calls, attempts, jobs and callbacks; prompts and answers only of the routes in `content`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// Where an OTLP receiver listens; absent: there are no traces.
    #[schemars(extend("format" = "shunt-base-url"))]
    pub endpoint: Option<String>,
    /// How it is spoken to.
    pub protocol: TraceProtocol,
    /// Headers that it is sent, by name.
    pub headers: BTreeMap<String, SecretSource>,
    /// The share of calls that is kept of those that are neither over their budget, nor failed, nor
    /// jobs, nor kept by their callers.
    pub sample: f64,
    /// How the gateway calls itself: `service.name`.
    pub service: String,
    /// Longest wait for the receiver's answer.
    pub timeout: Period,
    /// Calls, job runs and callbacks that may wait to be told; past it they are left out and counted.
    pub queue: usize,
    /// Globs of the routes whose prompts and answers are in their spans, as they passed. None by default.
    pub content: Vec<String>,
    /// Longest prompt, and longest answer, that is told; a longer one is left out whole.
    pub content_limit: Size,
    /// Prompts and answers that are held at a time: of calls under way, and of those that wait to be told.
    pub content_memory: Size,
    /// PEM file of further roots to trust, besides the system's.
    pub ca: Option<PathBuf>,
    /// The certificate that the gateway shows the receiver, where it asks for one.
    pub client_cert: Option<ClientCertificate>,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: TraceProtocol::default(),
            headers: BTreeMap::new(),
            sample: 0.1,
            service: "shunt".into(),
            timeout: Period::from_secs(10),
            queue: 4_096,
            content: Vec::new(),
            content_limit: Size(64 << 10),
            content_memory: Size(32 << 20),
            ca: None,
            client_cert: None,
        }
    }
}

/// How an OTLP receiver is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TraceProtocol {
    /// gRPC, mostly at port 4317.
    #[default]
    Grpc,
    /// Protobuf over HTTP, mostly at port 4318; `/v1/traces` is added to the endpoint's path.
    Http,
}
