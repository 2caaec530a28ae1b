//! A provider is offered twice what it takes: how many answers come within their budget, with and
//! without a limit on calls in flight.
//!
//! The provider serves 20 calls at once, 50 ms each, in the order of their arrival; what is beyond
//! waits there, and is served even if its caller has left, as by most servers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::behave::{Called, Providers, arrive};
use super::rig::{at, gateway, sorted};

const SLOTS: usize = 20;
const SERVICE: Duration = Duration::from_millis(50);
const CAPACITY: u32 = 400;
const OFFERED: u32 = 2 * CAPACITY;
const SECONDS: u32 = 20;
const BUDGET: f64 = 1.0;

/// Seconds until a queue has built, or a limit was found.
const SETTLED: f64 = 3.0;

const ROUTE: &str = r#"
[[routes]]
name    = "chat"
match   = { path = "/v1/chat/completions" }
targets = ["sim"]
budget  = { first_token = "1s", total = "1s" }
"#;

/// When each slot is free.
struct Slots(Mutex<Vec<Instant>>);

impl Slots {
    fn new() -> Self {
        Self(Mutex::new(vec![Instant::now(); SLOTS]))
    }

    /// How long a call takes that arrives now.
    fn serve(&self) -> Duration {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let first = slots.iter_mut().min().expect("there are slots");
        *first = (*first).max(now) + SERVICE;
        *first - now
    }
}

pub fn run() -> Result<()> {
    for mode in ["off", "adaptive"] {
        one(mode)?;
    }
    Ok(())
}

fn one(mode: &str) -> Result<()> {
    let slots = Slots::new();
    let behave = move |_, _| (slots.serve(), 200);
    let providers = Providers::start(1, Arc::new(behave))?;
    let route = format!("concurrency = {{ mode = \"{mode}\" }}\n{ROUTE}");
    let (server, _folder) = gateway(providers.addresses[0], "openai", &route)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let calls = runtime.block_on(arrive(server.public, OFFERED, SECONDS))?;
    report(mode, &calls, providers.total());
    ensure!(server.drain() == 0, "tasks were left after the drain");
    Ok(())
}

fn report(mode: &str, calls: &[Called], seen: u64) {
    let settled = |one: &&Called| one.due >= SETTLED;
    let share = |count: usize| count as f64 / calls.iter().filter(settled).count() as f64;
    let with = |status| {
        calls
            .iter()
            .filter(settled)
            .filter(move |one| one.status == status)
    };
    let good: Vec<f64> = with(200)
        .map(|one| one.took)
        .filter(|took| *took <= BUDGET)
        .collect();
    let goodput = good.len() as f64 / (f64::from(SECONDS) - SETTLED);
    println!(
        "overload {mode}: {goodput:.0} answers a second within {BUDGET} s, {:.2} of the capacity of {CAPACITY}; \
         {seen} of {} calls were sent",
        goodput / f64::from(CAPACITY),
        calls.len(),
    );
    let refused = sorted(with(503).map(|one| one.took).collect());
    println!(
        "overload {mode}: 503 for {:.0}%, 504 for {:.0}%",
        100.0 * share(refused.len()),
        100.0 * share(with(504).count()),
    );
    let good = sorted(good);
    for (what, took) in [("answers", &good), ("refusals", &refused)] {
        if !took.is_empty() {
            println!(
                "overload {mode}: {what} after p50 {:.0} ms, p99 {:.0} ms",
                1e3 * at(took, 0.5),
                1e3 * at(took, 0.99),
            );
        }
    }
}
