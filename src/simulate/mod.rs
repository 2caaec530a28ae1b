//! A simulated model provider: OpenAI's and Anthropic's APIs with stated latencies and faults.
//!
//! Promises: the same seed draws the same latencies in the same order of calls; its counts of
//! calls received, completed and aborted are exact. Stands in for providers in tests, load tests
//! and the demo; never part of a gateway's own path.

mod answers;
pub(crate) mod body;
mod coding;
mod distribution;
mod errors;
mod pages;
mod plan;
mod quota;
mod server;
mod stats;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

pub use distribution::Distribution;
pub use quota::QuotaSettings;
pub use server::Simulation;
pub use stats::{Counts, Snapshot};

/// What is simulated.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the draws begin.
    pub seed: u64,
    /// Time to the first token, or to a whole answer's beginning.
    pub first_token: Distribution,
    /// Time between two tokens.
    pub token_gap: Distribution,
    /// Tokens of an answer.
    pub tokens: u32,
    /// Shares of calls that go wrong.
    pub faults: Faults,
    /// A rate limit.
    pub quota: QuotaSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            seed: 1,
            first_token: Distribution::Fixed(0.05),
            token_gap: Distribution::Fixed(0.005),
            tokens: 16,
            faults: Faults::default(),
            quota: QuotaSettings::default(),
        }
    }
}

/// Shares of calls that go wrong, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// 429 with `Retry-After: 1`.
    pub rate_limited: f64,
    /// 500.
    pub server_error: f64,
    /// 529.
    pub overloaded: f64,
    /// The connection breaks after half of the answer.
    pub reset: f64,
    /// The answer stops and the connection stays.
    pub stall: f64,
    /// The stream ends without its last events.
    pub truncate: f64,
}

/// Flags of `shunt simulate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// A TOML file with the settings; flags go before it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where it listens.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where the draws begin.
    #[arg(long)]
    seed: Option<u64>,
    /// Such as `lognormal(400ms, 0.5)` or `bimodal(100ms, 1s, 0.05)`.
    #[arg(long)]
    first_token: Option<Distribution>,
    /// Such as `fixed(15ms)`.
    #[arg(long)]
    token_gap: Option<Distribution>,
    /// Tokens of an answer.
    #[arg(long)]
    tokens: Option<u32>,
    /// Requests a second, and as many at once; beyond them 429 with `Retry-After`.
    #[arg(long)]
    quota_requests: Option<u32>,
    /// Tell the quota by 429s only, not in the headers of every answer.
    #[arg(long)]
    quota_silent: bool,
}

fn settings(arguments: &Arguments) -> Result<Settings> {
    let mut settings = match &arguments.config {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            toml::from_str(&text).with_context(|| path.display().to_string())?
        }
        None => Settings::default(),
    };
    settings.listen = arguments.listen.unwrap_or(settings.listen);
    settings.seed = arguments.seed.unwrap_or(settings.seed);
    settings.first_token = arguments.first_token.unwrap_or(settings.first_token);
    settings.token_gap = arguments.token_gap.unwrap_or(settings.token_gap);
    settings.tokens = arguments.tokens.unwrap_or(settings.tokens);
    settings.quota.requests = arguments.quota_requests.unwrap_or(settings.quota.requests);
    settings.quota.headers &= !arguments.quota_silent;
    Ok(settings)
}

/// Runs it until SIGTERM or SIGINT.
///
/// # Errors
/// The settings are wrong, or the address is taken.
pub fn run(arguments: &Arguments) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let settings = settings(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let address = settings.listen;
        let simulation = Simulation::start(settings).await.with_context(|| {
            format!("the address {address} cannot be used; choose another with --listen")
        })?;
        let mut out = std::io::stdout();
        writeln!(out, "simulate listening on http://{}", simulation.address())?;
        out.flush()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        simulation.shutdown().await;
        Ok(())
    })
}
