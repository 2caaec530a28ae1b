//! The tools of `loadtest/compare`, which starts them: a bare hyper proxy, a load that arrives at a
//! fixed rate with the instant provider beside it, streams whose chunks carry the time they were
//! sent, calls that are demoted. Nothing of Shunt is in this program.

mod bare;
mod demoted;
mod fixed;
mod proc;
mod streams;
mod wire;

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The allocator of Shunt's binary, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What follows an option's name.
struct Options(Vec<String>);

impl Options {
    fn get<T>(&self, name: &str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let Some(at) = self.0.iter().position(|one| one == name) else {
            return Ok(None);
        };
        let value = self.0.get(at + 1).context("an option has a value")?;
        let value = value.parse().with_context(|| format!("{name} {value}"))?;
        Ok(Some(value))
    }

    fn need<T>(&self, name: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.get(name)?
            .with_context(|| format!("{name} is missing"))
    }

    fn seconds(&self) -> Result<Duration> {
        Ok(Duration::from_secs_f64(self.need("--seconds")?))
    }

    fn to(&self) -> Result<SocketAddr> {
        self.need("--to")
    }
}

/// The bare proxy until it is to end: in order, so that callgrind writes what it counted.
async fn bare(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.need::<SocketAddr>("--listen")?).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = bare::serve(listener, options.to()?) => served,
        _ = terminate.recv() => Ok(()),
    }
}

fn main() -> Result<()> {
    // Cargo adds `--bench` of its own.
    let mut arguments = std::env::args().skip(1).filter(|one| one != "--bench");
    let name = arguments.next().unwrap_or_default();
    let options = Options(arguments.collect());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match name.as_str() {
            "bare" => bare(&options).await,
            "fixed" => fixed::run(&options).await,
            "count" => fixed::count(&options).await,
            "streams" => streams::run(&options).await,
            "demoted" => demoted::run(&options).await,
            // `cargo bench` without a name comes here: these are tools, not figures.
            _ => {
                println!("tools of loadtest/compare: bare, fixed, count, streams, demoted");
                Ok(())
            }
        }
    })
}
