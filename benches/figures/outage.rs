//! A provider is down, or half down and slow, for ten seconds and recovers: how many calls it gets
//! for each call of the apps, and how soon after its recovery the p99 is what it was.

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

/// How the provider behaves in its bad ten seconds.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    /// Every call gets a 503 at once.
    Down,
    /// Every second call gets one, and the others are five times slower.
    BrownOut,
}

impl Trouble {
    fn behave(self, bad: bool, call: u64) -> (Duration, u16) {
        // 18 to 22 ms, and 1% at 200 ms.
        let micros = if call % 100 == 7 {
            200_000
        } else {
            18_000 + call % 40 * 100
        };
        match self {
            _ if !bad => (Duration::from_micros(micros), 200),
            Self::BrownOut if call.is_multiple_of(2) => (Duration::from_micros(5 * micros), 200),
            Self::Down | Self::BrownOut => (Duration::from_millis(2), 503),
        }
    }
}

pub fn run() -> Result<()> {
    one("outage", Trouble::Down)?;
    one("brown-out", Trouble::BrownOut)
}

fn one(name: &str, trouble: Trouble) -> Result<()> {
    let bad = Arc::new(AtomicBool::new(false));
    let behaves = bad.clone();
    let behave = move |_, call| trouble.behave(behaves.load(Ordering::Relaxed), call);
    let providers = Arc::new(Providers::start(1, Arc::new(behave))?);
    let (server, _folder) = gateway(providers.addresses[0], "openai", ROUTE)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let counted = providers.clone();
    let switch = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(OUTAGE.start.into()));
        let before = counted.total();
        bad.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs((OUTAGE.end - OUTAGE.start).into()));
        bad.store(false, Ordering::Relaxed);
        counted.total() - before
    });
    let calls = runtime.block_on(arrive(server.public, RATE, SECONDS))?;
    let Ok(within) = switch.join() else {
        anyhow::bail!("the trouble did not happen");
    };
    report(name, &calls, providers.total(), within);
    ensure!(server.drain() == 0, "tasks were left after the drain");
    Ok(())
}

fn report(name: &str, calls: &[Called], seen: u64, seen_within: u64) {
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
    let recovered = (0..SECONDS - OUTAGE.end)
        .map(|second| end + f64::from(second))
        .find(|from| failed(*from, from + 1.0) == 0 && p99(*from, from + 1.0) <= 1.5 * normal);
    let asked = within(start, end).count();
    println!(
        "{name}: {:.3} calls at the provider for each of the apps, {:.3} within it; {} of {asked} calls in it failed",
        seen as f64 / calls.len() as f64,
        seen_within as f64 / asked as f64,
        failed(start, end)
    );
    match recovered {
        Some(from) => println!(
            "{name}: p99 {:.0} ms before; within 1.5 of it from second {:.0} after the recovery on",
            normal * 1e3,
            from - end
        ),
        None => println!(
            "{name}: the p99 of {:.0} ms did not come back",
            normal * 1e3
        ),
    }
}
