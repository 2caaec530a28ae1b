//! What the gateway was told to do: the file's types, its checks and its secrets.
//!
//! Promises: a configuration that loads is consistent; every mistake is told at once, with its
//! line. Known to every other room and knows none of them. Never opens a socket.

mod access_log;
mod auth;
mod callbacks;
mod caller;
mod check;
mod concurrency;
mod glob;
mod load;
mod names;
mod period;
mod postgres;
mod predict;
mod quota;
mod route;
mod schema;
mod seal;
mod tls;
mod traces;
mod typed;
mod values;
mod wanted;

pub use access_log::{AccessLog, LogFormat};
pub use auth::Auth;
pub use callbacks::{Callbacks, Secrets};
pub use caller::{Caller, Network};
pub use concurrency::{Concurrency, ConcurrencyMode};
pub use glob::{Glob, PathPattern};
pub use load::{Loaded, Problem, Problems, load, load_with_warnings, parse, parse_with_warnings};
pub use names::Names;
pub use postgres::{Postgres, PostgresAddress, SslMode, is_postgres};
pub use predict::Predict;
pub use quota::Quota;
pub use route::*;
pub use schema::*;
pub use seal::Seal;
pub use tls::{ClientCertificate, ListenTls};
pub use traces::{TraceProtocol, Traces};
pub use values::{HedgeAfter, Period, Secret, SecretSource, Size, Switch};

/// So many letters apart a name is taken for a misspelt one.
const MISSPELT: usize = 3;
