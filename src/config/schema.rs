//! What a configuration file may say: the types, their defaults and their documentation.
//!
//! Promises: every field has a default that is safe; `config/reference.toml` shows each.
//! Never reads a file, the environment or a socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::concurrency::Concurrency;
use super::predict::Predict;
use super::quota::Quota;
use super::values::{HedgeAfter, Period, SecretSource, Size, Switch};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the gateway listens.
    pub listen: Listen,
    /// The process: threads and drain.
    pub server: Server,
    /// Bounds on what is held and accepted.
    pub limits: Limits,
    /// Who answers; by name.
    pub providers: BTreeMap<String, Provider>,
    /// Which calls go where, tried in this order.
    pub routes: Vec<Route>,
    /// The store of demoted calls.
    pub cold: Cold,
    /// How finished jobs are announced.
    pub callbacks: Callbacks,
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
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            public: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8081)),
            tls: None,
        }
    }
}

/// A certificate and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Worker threads, each with its own listener and pools; 0: one per core.
    pub workers: usize,
    /// Longest wait for running calls after SIGTERM before they are cut.
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
    /// Request body kept for a hedge or a job; a longer one streams through, once, undemotable.
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
    /// Calls in flight on one HTTP/2 connection of a caller.
    pub streams: u32,
    /// Tunnels (WebSocket) open at once per worker.
    pub tunnels: usize,
    /// Answers kept in memory for SDKs' retries and for `Idempotency-Key`, all together.
    pub replay: Size,
    /// Scopes known at once.
    pub scopes: usize,
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
            streams: 256,
            tunnels: 1_000,
            replay: Size(64 << 20),
            scopes: 10_000,
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

/// A route: which calls it takes, where they go, and what is promised for them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The name in metrics and answers.
    pub name: String,
    /// Which calls it takes.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Where they go: provider names, or tables with a weight and a model.
    pub targets: Vec<TargetEntry>,
    /// Deadlines.
    #[serde(default)]
    pub budget: Budget,
    /// Second attempts.
    #[serde(default)]
    pub hedge: Hedge,
    /// What happens at the deadline.
    #[serde(default)]
    pub over_budget: OverBudget,
    /// Calls that are jobs on arrival.
    #[serde(default)]
    pub predict: Predict,
    /// Attempts after a failure.
    #[serde(default)]
    pub retries: Retries,
    /// Jobs of this route.
    #[serde(default)]
    pub cold: RouteCold,
}

/// Conditions; all of them must hold.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Path: exact, or with a trailing `*`.
    #[schemars(extend("format" = "shunt-path"))]
    pub path: String,
    /// The JSON body's `model`: a glob with `*` and `?`.
    #[serde(default)]
    pub model: Option<String>,
    /// Header name to a glob that its value must match.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
}

/// One entry of `targets`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetEntry {
    /// A provider's name: weight 1, the caller's model.
    Name(String),
    /// A provider with a weight and a model.
    Table(TargetTable),
}

/// A provider with a weight and a model.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetTable {
    /// The provider's name.
    pub provider: String,
    /// Its share of the calls against the other targets' weights; 0: only for hedges and retries.
    #[serde(default = "weight")]
    pub weight: u32,
    /// The model it is asked for instead of the caller's.
    #[serde(default)]
    pub model: Option<String>,
}

fn weight() -> u32 {
    1
}

impl TargetEntry {
    /// The entry as a table.
    pub fn table(&self) -> TargetTable {
        match self {
            Self::Name(provider) => TargetTable {
                provider: provider.clone(),
                weight: 1,
                model: None,
            },
            Self::Table(table) => table.clone(),
        }
    }
}

/// Deadlines of a call, all from the moment its head was read.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Streams: until the first event that carries content.
    pub first_token: Period,
    /// Answers that do not stream: until the last byte. Streams: see `over_budget.mid_stream`.
    pub total: Period,
    /// Longest silence between two chunks of a stream.
    pub idle: Period,
    /// Tokens a second over any 10 s of a stream, below which it is over budget; 0: off.
    pub min_rate: u32,
    /// Longest wait for a new connection to a provider.
    pub connect: Period,
    /// Streams: an SSE comment each such time until the first token; commits status 200.
    pub keepalive: Switch,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            first_token: Period::from_secs(600),
            total: Period::from_secs(600),
            idle: Period::from_secs(300),
            min_rate: 0,
            connect: Period::from_secs(5),
            keepalive: Switch::Off,
        }
    }
}

/// Which calls may be sent twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Safe {
    /// Shunt's own list: completions, messages, embeddings and plain GETs; nothing that is stored.
    #[default]
    Auto,
    /// Every call of this route.
    Always,
    /// None.
    Never,
}

/// Second attempts.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// A percentile of the route's own window, a duration, `auto`, or `off`.
    pub after: HedgeAfter,
    /// At most this many extra calls per call, as a token bucket.
    pub max_extra: f64,
    /// Attempts of one call running at once, the first included.
    pub max_attempts: u32,
    /// Samples in the window below which a percentile is not believed.
    pub min_samples: u64,
    /// Which calls may be sent twice.
    pub safe: Safe,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            after: HedgeAfter::Off,
            max_extra: 0.05,
            max_attempts: 2,
            min_samples: 200,
            safe: Safe::Auto,
        }
    }
}

/// What happens at the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A job for those who asked; `unasked` for the others.
    #[default]
    Demote,
    /// 504 for everyone.
    Fail,
    /// Nothing is interrupted; what would have happened is counted.
    Observe,
}

/// What a caller gets that did not ask for a 202.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unasked {
    /// 504.
    #[default]
    Fail,
    /// 303 to the result.
    SeeOther,
    /// The call goes on.
    Wait,
}

/// A stream past `budget.total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MidStream {
    /// Runs to its end.
    #[default]
    Finish,
    /// Is cut.
    Cut,
}

/// What happens at the deadline.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverBudget {
    /// For callers that asked to be demoted.
    pub action: Action,
    /// For the others.
    pub unasked: Unasked,
    /// For streams that have begun.
    pub mid_stream: MidStream,
}

/// Attempts after a failure.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Further attempts, inside the deadline.
    pub max: u32,
    /// An SDK's own retry joins a call that runs or finished this recently.
    pub join: Period,
    /// A call whose caller vanished is kept this long for that retry.
    pub keep: Period,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max: 1,
            join: Period::from_secs(10),
            keep: Period::from_secs(0),
        }
    }
}

/// Jobs of one route.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteCold {
    /// A job older than this fails as expired.
    pub deadline: Period,
    /// Calls to providers for one job.
    pub max_attempts: u32,
    /// Running jobs of this route on this gateway.
    pub concurrency: usize,
    /// First back-off between two attempts; doubles, with full jitter, up to `backoff_max`.
    pub backoff: Period,
    /// Longest back-off between two attempts.
    pub backoff_max: Period,
}

impl Default for RouteCold {
    fn default() -> Self {
        Self {
            deadline: Period::from_secs(15 * 60),
            max_attempts: 5,
            concurrency: 32,
            backoff: Period::from_secs(1),
            backoff_max: Period::from_secs(60),
        }
    }
}

/// The store of demoted calls.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cold {
    /// `sqlite:PATH`.
    #[schemars(extend("format" = "shunt-store"))]
    pub store: String,
    /// Finished jobs are kept this long.
    pub retention: Period,
    /// Unfinished jobs; past it a call is not demoted.
    pub queue_limit: u64,
    /// The hand-off starts this long before the deadline, so that the 202 arrives within it.
    pub margin: Period,
}

impl Default for Cold {
    fn default() -> Self {
        Self {
            store: "sqlite:shunt.db".into(),
            retention: Period::from_secs(24 * 3600),
            queue_limit: 10_000,
            margin: Period::from_millis(5),
        }
    }
}

/// One secret, or several while they rotate.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Secrets {
    /// One.
    One(SecretSource),
    /// Several: each signs.
    Many(Vec<SecretSource>),
}

/// How finished jobs are announced.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Callbacks {
    /// `whsec_<base64>`; several for rotation. Absent: callers cannot ask for callbacks.
    pub secret: Option<Secrets>,
    /// Addresses besides public https ones; needed for http, private or loopback ones.
    pub allow: Vec<String>,
    /// Longest wait for a receiver's answer.
    pub timeout: Period,
    /// A larger answer is left out, with its address instead.
    pub inline_limit: Size,
    /// Waits before the second and each further delivery; after the last it is dead.
    pub schedule: Vec<Period>,
    /// Each wait is drawn within this share around its length.
    pub jitter: f64,
    /// Deliveries running at once.
    pub concurrency: usize,
}

impl Default for Callbacks {
    fn default() -> Self {
        const SCHEDULE: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        Self {
            secret: None,
            allow: Vec::new(),
            timeout: Period::from_secs(15),
            inline_limit: Size(256 << 10),
            schedule: SCHEDULE.into_iter().map(Period::from_secs).collect(),
            jitter: 0.2,
            concurrency: 64,
        }
    }
}
