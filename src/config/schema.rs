//! What a configuration file may say: the types, their defaults and their documentation.
//!
//! Promises: every field has a default that is safe; `config/reference.toml` shows each.
//! Never reads a file, the environment or a socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::access_log::AccessLog;
use super::auth::Auth;
use super::callbacks::Callbacks;
use super::caller::Caller;
use super::concurrency::Concurrency;
use super::names::Names;
use super::postgres::Postgres;
use super::quota::Quota;
use super::route::Route;
use super::seal::Seal;
use super::tls::{ClientCertificate, ListenTls};
use super::traces::Traces;
use super::values::{Period, SecretSource, Size};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the gateway listens.
    pub listen: Listen,
    /// Who may call.
    pub auth: Auth,
    /// The process: threads and drain.
    pub server: Server,
    /// Bounds on what is held and accepted.
    pub limits: Limits,
    /// Who answers; by name.
    pub providers: BTreeMap<String, Provider>,
    /// Which calls go where, tried in this order.
    pub routes: Vec<Route>,
    /// How names of providers and receivers are looked up.
    pub names: Names,
    /// The store of demoted calls.
    pub cold: Cold,
    /// How finished jobs are announced.
    pub callbacks: Callbacks,
    /// One line for each call.
    pub access_log: AccessLog,
    /// Spans for an OpenTelemetry receiver.
    pub traces: Traces,
}

/// Listeners.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Application traffic.
    pub public: SocketAddr,
    /// Operators: metrics, health, API.
    pub admin: SocketAddr,
    /// TLS on the public listener; absent: cleartext.
    pub tls: Option<ListenTls>,
    /// TLS on the admin listener; absent: cleartext.
    pub admin_tls: Option<ListenTls>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            public: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8081)),
            tls: None,
            admin_tls: None,
        }
    }
}

/// The process.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Worker threads, each with its own listener and pools; 0: one per core.
    pub workers: usize,
    /// Longest wait for running calls and jobs after SIGTERM before they are cut; a second signal
    /// cuts them at once.
    pub drain: Period,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: 0,
            drain: Period::from_secs(30),
        }
    }
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Request body kept for a hedge or a job, or read for its model; else a longer one streams through,
    /// once, undemotable.
    pub body: Size,
    /// Answer held back while its budget may still run out; a longer one is passed on as it comes.
    pub hold: Size,
    /// Answer kept for a job; a longer one fails the job.
    pub answer: Size,
    /// Request head: all header lines together.
    pub head: Size,
    /// Header lines of a request.
    pub headers: usize,
    /// Longest wait for a complete request head.
    pub head_timeout: Period,
    /// Open connections of callers per worker; past it new ones wait in the accept queue.
    pub connections: usize,
    /// Open connections to the admin listener, half of them of one address; past it new ones wait.
    pub operators: usize,
    /// Calls in flight on one HTTP/2 connection of a caller.
    pub streams: u32,
    /// Tunnels (WebSocket) open at once per worker.
    pub tunnels: usize,
    /// Answers kept in memory for SDKs' retries and for `Idempotency-Key`, all together.
    pub replay: Size,
    /// Scopes known at once; past half of them a caller that has a tenth gets no new one.
    pub scopes: usize,
    /// What one caller may take.
    pub caller: Caller,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: Size(32 << 20),
            hold: Size(8 << 20),
            answer: Size(64 << 20),
            head: Size(64 << 10),
            headers: 128,
            head_timeout: Period::from_secs(10),
            connections: 20_000,
            operators: 256,
            streams: 256,
            tunnels: 1_000,
            replay: Size(64 << 20),
            scopes: 10_000,
            caller: Caller::default(),
        }
    }
}

/// The API that a provider speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI's API and its many compatible servers.
    Openai,
    /// Anthropic's Messages API.
    Anthropic,
    /// Anything else over HTTP: the first body byte counts as the first token.
    #[default]
    Plain,
}

/// HTTP version towards a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// What TLS negotiates; HTTP/1.1 in cleartext.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; in cleartext by prior knowledge.
    Http2,
}

/// A provider of models.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Scheme, host, port and an optional path prefix.
    #[schemars(extend("format" = "shunt-base-url"))]
    pub base_url: String,
    /// The API it speaks.
    #[serde(default)]
    pub dialect: Dialect,
    /// The key sent to it in place of the caller's credentials; absent: the caller's pass through.
    #[serde(default)]
    pub api_key: Option<SecretSource>,
    /// HTTP version.
    #[serde(default)]
    pub protocol: Protocol,
    /// Connections that each worker keeps open before a call needs them.
    #[serde(default = "one")]
    pub warm_connections: usize,
    /// Idle connections kept at most, per worker.
    #[serde(default = "idle_connections")]
    pub idle_connections: usize,
    /// An idle connection is closed after this.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Period,
    /// PEM file of further roots to trust, besides the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The certificate that the gateway shows it, where it asks for one.
    #[serde(default)]
    pub client_cert: Option<ClientCertificate>,
    /// What jobs leave of its rate limits.
    #[serde(default)]
    pub quota: Quota,
    /// Calls in flight to each of its targets.
    #[serde(default)]
    pub concurrency: Concurrency,
}

fn one() -> usize {
    1
}

fn idle_connections() -> usize {
    1_024
}

fn idle_timeout() -> Period {
    Period::from_secs(90)
}

/// The store of demoted calls.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cold {
    /// `sqlite:PATH`, or `postgres://USER@HOST:PORT/DATABASE` for as many gateways as one likes.
    #[schemars(extend("format" = "shunt-store"))]
    pub store: String,
    /// Finished jobs are kept this long.
    pub retention: Period,
    /// Unfinished jobs; past it a call is not demoted.
    pub queue_limit: u64,
    /// A gateway that dies is missed, and its jobs are taken over, within two of these. Its lease is
    /// renewed four times in each.
    pub heartbeat: Period,
    /// The hand-off starts this long before the deadline, so that the 202 arrives within it.
    pub margin: Period,
    /// Bounds of a PostgreSQL store.
    pub postgres: Postgres,
    /// What is kept sealed.
    pub seal: Seal,
    /// The environment variable that holds the keys: `id:base64` of 32 bytes, with commas between;
    /// the first seals, each opens. Absent: a key file beside the store.
    pub seal_keys_env: Option<String>,
}

impl Default for Cold {
    fn default() -> Self {
        Self {
            store: "sqlite:shunt.db".into(),
            retention: Period::from_secs(24 * 3600),
            queue_limit: 10_000,
            heartbeat: Period::from_secs(5),
            margin: Period::from_millis(5),
            postgres: Postgres::default(),
            seal: Seal::Credentials,
            seal_keys_env: None,
        }
    }
}
