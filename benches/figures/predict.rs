//! Which calls are told on arrival that they will miss their budget, and whether they do, in virtual
//! time. The gateway's own predictor decides and is told of each run; calls and clock are simulated.
//!
//! The mix: 20 calls a second to two models, one 1.6 times slower than the other, each call drawn from
//! `WORK`; not streamed, budget 10 s. First token 0.4 s · LN(0.5), longer with the prompt (twice at
//! 40 kB), 3% stalls U(3, 10) s; output log-normal, cut at `max_tokens`; 15 ms a token. Seven in ten
//! callers asked for a 202, the others are cut at the budget (their attempts are given up). Chat,
//! short labels and summaries miss now and then, by stalls and long outputs; reports nearly always.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use shunt::config::Predict;
use shunt::hot::Predictor;
use shunt::latency::Kind;
use shunt::meter::{Meter, Said, Turned, Witness};

const CALLS: u32 = 50_000;
const RATE: f64 = 20.0;
const BUDGET: Duration = Duration::from_secs(10);
const OPTED_IN: f64 = 0.7;

/// Stretch of the run in which the first model is three times slower.
const SLOW: std::ops::Range<f64> = 800.0..1_600.0;

/// What has to come out.
const PRECISION: f64 = 0.95;
const RECALL: f64 = 0.60;
/// Either change, in seconds: a class brings about a call a second.
const NOTICED: f64 = 300.0;

struct Work {
    name: &'static str,
    share: f64,
    max_tokens: u32,
    /// Prompt in bytes and output in tokens: median and sigma.
    prompt: (f64, f64),
    output: (f64, f64),
}

const WORK: [Work; 4] = [
    work("label", 0.25, 16, (1_500.0, 0.5), (4.0, 0.5)),
    work("chat", 0.45, 256, (3_000.0, 1.0), (120.0, 0.9)),
    work("summary", 0.15, 512, (40_000.0, 0.5), (300.0, 0.25)),
    work("report", 0.15, 4_096, (4_000.0, 0.8), (1_800.0, 0.5)),
];

const fn work(
    name: &'static str,
    share: f64,
    max_tokens: u32,
    prompt: (f64, f64),
    output: (f64, f64),
) -> Work {
    Work {
        name,
        share,
        max_tokens,
        prompt,
        output,
    }
}

/// Models, and how much slower they are.
const MODELS: [(&str, f64); 2] = [("swift", 1.0), ("thorough", 1.6)];

/// One call: what it is, and how long it takes.
struct Call {
    work: usize,
    model: usize,
    kind: Kind,
    took: f64,
    opted_in: bool,
}

fn lognormal(random: &mut StdRng, (median, sigma): (f64, f64)) -> f64 {
    // Box and Muller (1958).
    let (one, two): (f64, f64) = (random.random(), random.random());
    let normal = (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * two).cos();
    median * (sigma * normal).exp()
}

fn draw(number: u32, now: f64, changes: bool) -> Call {
    let mut random = StdRng::seed_from_u64(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut left: f64 = random.random();
    let found = WORK.iter().position(|work| {
        left -= work.share;
        left < 0.0
    });
    let at = found.unwrap_or(0);
    let (work, model) = (&WORK[at], usize::from(random.random::<bool>()));
    let prompt = lognormal(&mut random, work.prompt);
    let tokens = lognormal(&mut random, work.output).clamp(1.0, f64::from(work.max_tokens));
    let usual = lognormal(&mut random, (0.4, 0.5)) * (1.0 + prompt / 40_000.0);
    let stalls = random.random::<f64>() < 0.03;
    let first = if stalls {
        random.random_range(3.0..10.0)
    } else {
        usual
    };
    let slow = changes && model == 0 && SLOW.contains(&now);
    let speed = MODELS[model].1 * if slow { 3.0 } else { 1.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = prompt as usize;
    Call {
        work: at,
        model,
        kind: Kind::new(
            false,
            Some(MODELS[model].0),
            Some(work.max_tokens.into()),
            bytes,
        ),
        took: speed * (first + 0.015 * tokens),
        opted_in: random.random::<f64>() < OPTED_IN,
    }
}

/// What came of the calls that opted in, of one kind of work and model.
#[derive(Clone, Copy, Default)]
struct Tally {
    calls: u64,
    missed: u64,
    predicted: u64,
    right: u64,
}

impl Tally {
    fn add(&mut self, late: bool, misses: bool) {
        self.calls += 1;
        self.missed += u64::from(misses);
        self.predicted += u64::from(late);
        self.right += u64::from(late && misses);
    }

    fn precision(&self) -> f64 {
        self.right as f64 / self.predicted.max(1) as f64
    }

    fn recall(&self) -> f64 {
        self.right as f64 / self.missed.max(1) as f64
    }
}

/// A run, by work and model, and when each change of speed was noticed, in seconds after it.
struct Outcome {
    tallies: [[Tally; MODELS.len()]; WORK.len()],
    noticed: [Option<f64>; 2],
    predictor: Predictor,
}

/// An attempt under way: who is told of its end, and whether it is given up there.
type Running = BTreeMap<(Duration, u32), (Witness, Duration, bool)>;

fn happen(running: &mut Running, until: Duration) {
    while let Some(next) = running.first_entry().filter(|next| next.key().0 <= until) {
        let (witness, took, given_up) = next.remove();
        if given_up {
            witness.given_up(took);
        } else {
            witness.ended(took);
        }
    }
}

fn simulate(changes: bool) -> Outcome {
    let meter: Arc<Meter> = Meter::new(1);
    let predictor = Predictor::new(&meter, "simulated", &Predict::default());
    let mut running = Running::new();
    let mut second = Duration::from_secs(1);
    let mut tallies = [[Tally::default(); MODELS.len()]; WORK.len()];
    let mut watch = Watch::default();
    for number in 0..CALLS {
        let now = f64::from(number) / RATE;
        let arrived = Duration::from_secs_f64(now);
        while second <= arrived {
            happen(&mut running, second);
            meter.tick(second);
            second += Duration::from_secs(1);
        }
        let call = draw(number, now, changes);
        let took = Duration::from_secs_f64(call.took);
        let mut said = None;
        if call.opted_in {
            let late = predictor.ask(call.kind, BUDGET).late;
            tallies[call.work][call.model].add(late, took > BUDGET);
            said = Some(Said {
                late,
                budget: BUDGET,
            });
            // Of the swift model's classes it is the summary's that turns from met to missed.
            if WORK[call.work].name == "summary" && call.model == 0 {
                watch.saw(now, late);
            }
        }
        let given_up = !call.opted_in && took > BUDGET;
        let took = if given_up { BUDGET } else { took };
        if let Some(witness) = predictor.witness(call.kind, said) {
            running.insert((arrived + took, number), (witness, took, given_up));
        }
    }
    happen(&mut running, Duration::MAX);
    Outcome {
        tallies,
        noticed: watch.noticed,
        predictor,
    }
}

/// Tells when most of the last ten calls of a class are first predicted otherwise after a change.
#[derive(Default)]
struct Watch {
    last: VecDeque<bool>,
    noticed: [Option<f64>; 2],
}

impl Watch {
    fn saw(&mut self, now: f64, late: bool) {
        self.last.push_back(late);
        if self.last.len() > 10 {
            self.last.pop_front();
        }
        let late = self.last.iter().filter(|late| **late).count();
        if late >= 8 && SLOW.contains(&now) {
            self.noticed[0].get_or_insert(now - SLOW.start);
        }
        if late <= 2 && now >= SLOW.end {
            self.noticed[1].get_or_insert(now - SLOW.end);
        }
    }
}

fn show(outcome: &Outcome) -> Result<Tally> {
    let mut all = Tally::default();
    for (work, row) in WORK.iter().zip(&outcome.tallies) {
        for ((model, _), tally) in MODELS.iter().zip(row) {
            println!(
                "  {:<8} {model:<9} {:6} calls, {:5.1}% miss, {:5.1}% predicted, {} of them wrong",
                work.name,
                tally.calls,
                100.0 * tally.missed as f64 / tally.calls.max(1) as f64,
                100.0 * tally.predicted as f64 / tally.calls.max(1) as f64,
                tally.predicted - tally.right,
            );
            all.calls += tally.calls;
            all.missed += tally.missed;
            all.predicted += tally.predicted;
            all.right += tally.right;
        }
    }
    println!(
        "  all {} calls that asked for a 202: {:.1}% miss; precision {:.1}%, recall {:.1}%",
        all.calls,
        100.0 * all.missed as f64 / all.calls as f64,
        100.0 * all.precision(),
        100.0 * all.recall(),
    );
    let predictions = outcome.predictor.predictions();
    let told =
        predictions.map(|one| [Turned::Right, Turned::Wrong].map(|turned| one.turned(turned)));
    ensure!(
        told == Some([all.right, all.predicted - all.right]),
        "the gateway's own judgement {told:?} is not what happened"
    );
    Ok(all)
}

pub fn run() -> Result<()> {
    println!("steady, {CALLS} calls, budget {} s", BUDGET.as_secs());
    let steady = show(&simulate(false))?;
    println!(
        "the swift model three times slower from {} to {} s of {}",
        SLOW.start,
        SLOW.end,
        f64::from(CALLS) / RATE
    );
    let changing = simulate(true);
    let changed = show(&changing)?;
    let [slower, faster] = changing.noticed.map(|after| after.unwrap_or(f64::INFINITY));
    println!(
        "  its summaries are told at once from {slower:.0} s after it slows, and served again from {faster:.0} s after it recovers"
    );
    ensure!(
        steady.precision() >= PRECISION && steady.recall() >= RECALL,
        "precision has to be {PRECISION} and recall {RECALL}"
    );
    ensure!(
        changed.precision() >= PRECISION,
        "precision has to be {PRECISION} across a change too"
    );
    ensure!(
        slower <= NOTICED && faster <= NOTICED,
        "a change has to be noticed in {NOTICED} s"
    );
    Ok(())
}
