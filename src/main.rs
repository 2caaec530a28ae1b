//! The command line.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use shunt::config::{self, Loaded};
use shunt::server::Server;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A call allocates some dozen small things on one thread and frees them there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about = "A latency-aware AI gateway")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway. SIGTERM or SIGINT: drain and exit; SIGHUP: reload.
    Serve(File),
    /// Validate a configuration, or tell which route a call takes; opens no socket.
    Check(Check),
    /// Show the whole product on loopback, with no keys.
    Demo(shunt::demo::Arguments),
    /// List, show, cancel, retry and call back jobs.
    Jobs(shunt::jobs::Arguments),
    /// Create, list and revoke the gateway's own keys.
    Keys(shunt::keys::Arguments),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Run the simulated provider.
    Simulate(shunt::simulate::Arguments),
    /// Watch routes, targets and jobs in this terminal.
    Top(shunt::top::Arguments),
}

#[derive(clap::Args)]
struct File {
    /// The configuration file.
    #[arg(long, default_value = "config/shunt.toml")]
    config: PathBuf,
}

#[derive(clap::Args)]
struct Check {
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    call: shunt::explain::Arguments,
}

/// What is logged where `SHUNT_LOG` says nothing. Libraries warn of what strangers send: a flood would
/// be one of the log too, and metrics count it.
const LOGGED: &str = "info,rustls=error,h2=error";

fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("SHUNT_LOG").unwrap_or_else(|_| LOGGED.into());
    // Colours are for a terminal: in a file or a journal they are noise. no-color.org.
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
    let done = match Cli::parse().command {
        Command::Serve(file) => serve(&file),
        Command::Check(arguments) => check(&arguments),
        Command::Demo(arguments) => shunt::demo::run(&arguments),
        Command::Jobs(arguments) => shunt::jobs::run(&arguments),
        Command::Keys(arguments) => shunt::keys::run(&arguments),
        Command::Schema => schema(),
        Command::Simulate(arguments) => shunt::simulate::run(&arguments),
        Command::Top(arguments) => shunt::top::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whatever goes wrong on stderr cannot be told anywhere.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(file: &File) -> Result<()> {
    let server = Server::start(&loaded(file)?)?;
    // Who reads that it listens may send a signal at once.
    let mut stops = server.block_on(async { Stops::listen() })?;
    let mut hang_up = server.block_on(async { signal(SignalKind::hangup()) })?;
    let mut out = std::io::stdout();
    writeln!(out, "public listening on {}", server.public_url())?;
    writeln!(out, "admin listening on {}", server.admin_url())?;
    out.flush()?;
    server.block_on(until_stopped(&server, file, &mut stops, &mut hang_up));
    tracing::info!("calls and jobs are let end; another signal cuts them short");
    let left = server.drain_unless(async move { stops.next().await });
    anyhow::ensure!(
        left == 0,
        "{left} tasks were left after the drain; please report this"
    );
    Ok(())
}

/// The configuration; what in it is hardly meant is logged.
fn loaded(file: &File) -> Result<config::Config> {
    let Loaded { config, warnings } = config::load_with_warnings(&file.config)?;
    for warning in warnings.into_iter().chain(shunt::server::astray(&config)) {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Signals to stop.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn until_stopped(server: &Server, file: &File, stops: &mut Stops, hang_up: &mut Signal) {
    loop {
        tokio::select! {
            () = stops.next() => return,
            _ = hang_up.recv() => {
                server.open_anew();
                match server.reload_from(|| loaded(file)) {
                    Ok(()) => tracing::info!("the configuration was reloaded"),
                    Err(error) => tracing::error!("the old configuration stays: {error:#}"),
                }
            }
        }
    }
}

fn check(Check { file, call }: &Check) -> Result<()> {
    let Loaded { config, warnings } = config::load_with_warnings(&file.config)?;
    let here = [
        shunt::server::expired(&config),
        shunt::server::astray(&config),
    ]
    .concat();
    for warning in warnings.into_iter().chain(here) {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    if call.asks() {
        return shunt::explain::run(&config, call);
    }
    let (mut out, name) = (std::io::stdout(), file.config.display());
    let missing = shunt::server::missing(&config);
    if missing.is_empty() {
        writeln!(out, "{name} is valid")?;
    }
    for why in missing {
        writeln!(out, "{name} is valid; serve would not start here: {why}")?;
    }
    Ok(())
}

fn schema() -> Result<()> {
    let schema = schemars::schema_for!(config::Config);
    let text = serde_json::to_string_pretty(&schema).context("the schema is valid JSON")?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}
