//! A provider answers every call with 503 for ten seconds and recovers: how many calls it gets for
//! each call of the apps, and how soon after its recovery the p99 is what it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::behave::{Called, Providers, arrive};
use super::rig::{at, gateway, sorted};

const RATE: u32 = 200;
const OUTAGE: std::ops::Range<u32> = 10..20;
const SECONDS: u32 = 40;

const ROUTE: &str = r#"
[[routes]]
name    = "chat"
match   = { path = "/v1/chat/completions" }
targets = ["sim"]
budget  = { first_token = "2s", total = "2s" }
retries = { max = 2 }
hedge   = { after = "p95", max_extra = 0.05, min_samples = 100 }
"#;

pub fn run() -> Result<()> {
    let down = Arc::new(AtomicBool::new(false));
    let behaves = down.clone();
    let providers = Providers::start(
        1,
        Arc::new(move |_, call| match behaves.load(Ordering::Relaxed) {
            true => (Duration::from_millis(2), 503),
            // 18 to 22 ms, and 1% at 200 ms.
            false if call % 100 == 7 => (Duration::from_millis(200), 200),
            false => (Duration::from_micros(18_000 + call % 40 * 100), 200),
        }),
    )?;
    let (server, _folder) = gateway(providers.addresses[0], "openai", ROUTE)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let switch = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(OUTAGE.start.into()));
        down.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs((OUTAGE.end - OUTAGE.start).into()));
        down.store(false, Ordering::Relaxed);
    });
    let calls = runtime.block_on(arrive(server.public, RATE, SECONDS))?;
    ensure!(switch.join().is_ok(), "the outage did not happen");
    report(&calls, providers.total());
    ensure!(server.drain() == 0, "tasks were left after the drain");
    Ok(())
}

fn report(calls: &[Called], seen: u64) {
    let within = |from: f64, to: f64| {
        calls
            .iter()
            .filter(move |one| (from..to).contains(&one.due))
    };
    let p99 = |from, to| {
        at(
            &sorted(within(from, to).map(|one| one.took).collect()),
            0.99,
        )
    };
    let failed = |from, to| within(from, to).filter(|one| one.status != 200).count();
    let (start, end) = (f64::from(OUTAGE.start), f64::from(OUTAGE.end));
    let normal = p99(5.0, start);
    // The first second from which all calls succeed and the p99 is at most half above normal.
    let recovered = (0..u32::MAX)
        .map(|second| end + f64::from(second))
        .take_while(|from| *from < f64::from(SECONDS))
        .find(|from| failed(*from, from + 1.0) == 0 && p99(*from, from + 1.0) <= 1.5 * normal);
    println!(
        "outage: {seen} calls at the provider for {} of the apps: {:.3}; of {} calls in the outage {} failed",
        calls.len(),
        seen as f64 / calls.len() as f64,
        within(start, end).count(),
        failed(start, end)
    );
    match recovered {
        Some(from) => println!(
            "recovery: p99 {:.0} ms before; within 1.5 of it from second {:.0} after the provider's recovery",
            normal * 1e3,
            from - end
        ),
        None => println!(
            "recovery: the p99 of {:.0} ms did not come back",
            normal * 1e3
        ),
    }
}
