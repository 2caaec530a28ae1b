//! Four gateways: three on one PostgreSQL, the fourth on a file on a small disk; each has a clock of its
//! own that can be set.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::names::NAME;
use crate::KEYS;
use crate::storm::house::{House, Start};
use crate::storm::shunt;

/// Those on PostgreSQL.
pub const TOGETHER: usize = 3;
/// The one on a file.
pub const ALONE: usize = 3;
pub const ALL: usize = 4;

/// Milliseconds that a call without a job has.
pub const BUDGET: u64 = 2_000;
/// Longest wait for a head.
pub const HEAD: u64 = 2_000;

/// Where a Debian package keeps the library that a process's clock is set with.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// What gateways are started with.
pub struct Ground<'a> {
    pub folder: &'a Path,
    pub secret: &'a str,
    pub postgres: &'a str,
    pub file: &'a str,
    /// The first has a number for its host, the second a name.
    pub providers: [SocketAddr; 2],
    pub receiver: SocketAddr,
}

fn library() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib")?.flatten();
    let mut found = folders.map(|one| one.path().join(FAKETIME));
    found
        .find(|one| one.exists())
        .context("libfaketime is missing; install the Debian package faketime")
}

fn clock(folder: &Path, gateway: usize) -> PathBuf {
    folder.join(format!("clock-{gateway}"))
}

/// Sets a gateway's clock of the day so many seconds ahead of the right time. Its clock for spans of
/// time stays right, as a real one's does.
///
/// # Errors
/// The file cannot be written.
pub fn set_clock(folder: &Path, gateway: usize, ahead: i32) -> Result<()> {
    let file = clock(folder, gateway);
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{ahead:+}\n"))?;
    Ok(std::fs::rename(new, file)?)
}

/// Starts them.
///
/// # Errors
/// One does not start.
pub fn start(ground: &Ground) -> Result<House> {
    let library = library()?;
    let mut before = Vec::new();
    let mut configs = Vec::new();
    for gateway in 0..ALL {
        set_clock(ground.folder, gateway, 0)?;
        let clock = clock(ground.folder, gateway);
        before.push(vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
            "FAKETIME_CACHE_DURATION=1".into(),
            "DONT_FAKE_MONOTONIC=1".into(),
            "NO_FAKE_STAT=1".into(),
        ]);
        let store = if gateway == ALONE {
            ground.file
        } else {
            ground.postgres
        };
        configs.push(config(ground, store));
    }
    let start = Start {
        folder: ground.folder.to_owned(),
        shunt: shunt(),
        environment: vec![("CHAOS_SECRET".into(), ground.secret.to_owned())],
        before,
    };
    House::begin(start, &configs)
}

fn config(ground: &Ground, store: &str) -> String {
    let [near, far] = ground.providers;
    let (far, receiver) = (far.port(), ground.receiver.port());
    format!(
        r#"
[listen]
public = "127.0.0.1:0"
admin  = "127.0.0.1:0"
[server]
workers = 1
drain   = "3s"
[limits]
head_timeout = "{HEAD}ms"
[providers.near]
base_url = "http://{near}"
dialect  = "openai"
idle_timeout = "5s"
[providers.far]
base_url = "http://{NAME}:{far}"
dialect  = "openai"
idle_timeout = "5s"
[[routes]]
name    = "cold"
match   = {{ path = "/v1/chat/completions", model = "gpt-*" }}
targets = ["near", "far"]
budget  = {{ first_token = "{BUDGET}ms", total = "{BUDGET}ms", connect = "500ms" }}
predict = {{ floor = 0 }}
cold    = {{ deadline = "5m", max_attempts = 100, concurrency = 64, backoff = "200ms", backoff_max = "3s" }}
[[routes]]
name    = "hot"
match   = {{ path = "/v1/chat/completions", model = "hot" }}
targets = ["near", "far"]
budget  = {{ first_token = "{BUDGET}ms", total = "{BUDGET}ms", idle = "1s", connect = "500ms" }}
hedge   = {{ after = "300ms" }}
over_budget = {{ action = "fail", mid_stream = "cut" }}
[cold]
store       = "{store}"
heartbeat   = "2s"
seal_keys_env = "{KEYS}"
[callbacks]
secret   = {{ env = "CHAOS_SECRET" }}
allow    = ["http://{NAME}:{receiver}/*"]
timeout  = "2s"
schedule = ["1s", "2s", "3s", "5s", "5s", "10s", "10s", "10s", "10s", "20s", "20s", "30s", "1m", "2m"]
rest     = "1s"
rest_max = "5s"
concurrency  = 256
per_endpoint = 256
"#
    )
}
