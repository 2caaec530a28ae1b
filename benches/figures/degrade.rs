//! LLM-like first tokens on three targets, of which one is ten times slower for a third of the
//! time: through Shunt with and without the trouble, and beside it round robin without a hedge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::behave::{Called, Providers, arrive};
use super::rig::{at, gateway_with, sorted};

const RATE: u32 = 60;
const SECONDS: u32 = 150;
/// When the first target is slow.
const SLOW: std::ops::Range<u32> = 60..120;

const HEDGED: &str = r#"hedge = { after = "auto", max_extra = 0.05 }"#;

/// A tenth of a model's first token, so that a run takes minutes and no hour: 40 ms · LN(0.5), and
/// 1% stalls of 0.3 to 1 s.
fn first_token(random: &mut StdRng) -> f64 {
    if random.random::<f64>() < 0.01 {
        return random.random_range(0.3..1.0);
    }
    let (one, two): (f64, f64) = (random.random(), random.random());
    let normal = (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * two).cos();
    0.04 * (0.5 * normal).exp()
}

fn one_run(disturbed: bool, robin: bool) -> Result<Vec<Called>> {
    let slow = Arc::new(AtomicBool::new(false));
    let number = AtomicU64::new(0);
    let behaves = slow.clone();
    let providers = Providers::start(
        3,
        Arc::new(move |target, _| {
            let call = number.fetch_add(1, Ordering::Relaxed);
            let mut random = StdRng::seed_from_u64(call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let slower = target == 0 && behaves.load(Ordering::Relaxed);
            let seconds = first_token(&mut random) * if slower { 10.0 } else { 1.0 };
            (Duration::from_secs_f64(seconds), 200)
        }),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let trouble = std::thread::spawn(move || {
        if disturbed {
            std::thread::sleep(Duration::from_secs(SLOW.start.into()));
            slow.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs((SLOW.end - SLOW.start).into()));
            slow.store(false, Ordering::Relaxed);
        }
    });
    let calls = if robin {
        let addresses = &providers.addresses;
        runtime.block_on(async {
            let third = |at: usize| arrive(addresses[at], RATE / 3, SECONDS);
            let (one, two, three) = tokio::try_join!(third(0), third(1), third(2))?;
            anyhow::Ok([one, two, three].concat())
        })?
    } else {
        let route = format!(
            "[[routes]]\nname = \"chat\"\nmatch = {{ path = \"/v1/chat/completions\" }}\n\
             targets = [\"p0\", \"p1\", \"p2\"]\n{HEDGED}\n"
        );
        let (server, _folder) = gateway_with(&providers.addresses, "openai", &route)?;
        let calls = runtime.block_on(arrive(server.public, RATE, SECONDS))?;
        ensure!(server.drain() == 0, "tasks were left after the drain");
        calls
    };
    ensure!(trouble.join().is_ok(), "the trouble did not happen");
    Ok(calls)
}

pub fn run() -> Result<()> {
    let p99 = |calls: &[Called]| {
        let slow = f64::from(SLOW.start)..f64::from(SLOW.end);
        let within = calls.iter().filter(|one| slow.contains(&one.due));
        at(&sorted(within.map(|one| one.took).collect()), 0.99) * 1e3
    };
    let calm = p99(&one_run(false, false)?);
    let disturbed = p99(&one_run(true, false)?);
    let robin = p99(&one_run(true, true)?);
    println!(
        "p99 of first token while one of three targets is ten times slower: {disturbed:.0} ms through \
         Shunt, {:.2} of the undisturbed {calm:.0} ms; {robin:.0} ms with round robin and no hedge",
        disturbed / calm
    );
    Ok(())
}
