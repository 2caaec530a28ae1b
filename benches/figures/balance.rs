//! Balancing rules against each other in virtual time: round robin, fewest in flight, two choices
//! by calls in flight, two choices and best of all by the
//! gateway's own `Load`, and Prequal's hot-cold
//! rule (Wydrowski et al., NSDI 2024) with perfect knowledge in place of probes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use shunt::upstream::load::Load;
use tokio::time::Instant;

use super::rig::{at, sorted};

const CALLS: u64 = 300_000;

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    RoundRobin,
    FewestInFlight,
    TwoByInFlight,
    TwoByLoad,
    BestByLoad,
    HotCold,
}

const RULES: [(&str, Rule); 6] = [
    ("round robin", Rule::RoundRobin),
    ("fewest in flight", Rule::FewestInFlight),
    ("two, in flight", Rule::TwoByInFlight),
    ("two, EWMA", Rule::TwoByLoad),
    ("all, EWMA", Rule::BestByLoad),
    ("hot-cold", Rule::HotCold),
];

/// What the targets are like.
struct Scene {
    name: &'static str,
    targets: usize,
    /// One call at a time each, the others wait; else any number at once.
    queues: bool,
    /// Calls a second.
    rate: f64,
    /// Seconds of one call at a target, at a time.
    service: fn(&mut StdRng, usize, f64) -> f64,
}

const SCENES: [Scene; 4] = [
    Scene {
        name: "16 queues, load 0.7",
        targets: 16,
        queues: true,
        rate: 16.0 * 0.7 / 0.0145,
        service: |random, _, _| server(random),
    },
    Scene {
        name: "16 queues, 4 of them 2x slower, load 0.6",
        targets: 16,
        queues: true,
        rate: 16.0 * 0.6 / 0.0181,
        service: |random, target, _| server(random) * if target < 4 { 2.0 } else { 1.0 },
    },
    Scene {
        name: "3 models, one 10x slower a third of the time",
        targets: 3,
        queues: false,
        rate: 50.0,
        service: |random, target, now| {
            model(random)
                * if target == 0 && now % 180.0 > 120.0 {
                    10.0
                } else {
                    1.0
                }
        },
    },
    Scene {
        name: "3 models, all alike",
        targets: 3,
        queues: false,
        rate: 50.0,
        service: |random, _, _| model(random),
    },
];

fn lognormal(random: &mut StdRng, sigma: f64) -> f64 {
    let (one, two): (f64, f64) = (random.random(), random.random());
    let normal = (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * two).cos();
    (sigma * normal).exp()
}

/// 98% 10 ms · LN(0.4), 2% 100 to 300 ms.
fn server(random: &mut StdRng) -> f64 {
    if random.random::<f64>() < 0.02 {
        random.random_range(0.1..0.3)
    } else {
        0.01 * lognormal(random, 0.4)
    }
}

/// A model's first token: 0.4 s · LN(0.5), and 2% stalls of 3 to 10 s.
fn model(random: &mut StdRng) -> f64 {
    if random.random::<f64>() < 0.02 {
        random.random_range(3.0..10.0)
    } else {
        0.4 * lognormal(random, 0.5)
    }
}

struct Target {
    load: Load,
    /// When its queue is empty.
    free: f64,
    running: usize,
    /// For the hot-cold rule: smoothed seconds of calls by how many were running when they came.
    latency: [f64; COUNTED],
}

/// Calls in flight told apart by the hot-cold rule.
const COUNTED: usize = 64;

impl Target {
    /// The hot-cold rule's estimate: of the nearest count of calls in flight that is known.
    fn estimate(&self) -> f64 {
        let here = self.running.min(COUNTED - 1);
        let known = |at: &usize| self.latency[*at] > 0.0;
        let near = (0..COUNTED)
            .filter(known)
            .min_by_key(|at| at.abs_diff(here));
        near.map_or(0.0, |at| self.latency[at])
    }
}

/// The p95 and the p99 in seconds that a rule makes of a scene.
fn run(scene: &Scene, rule: Rule) -> (f64, f64) {
    let mut random = StdRng::seed_from_u64(9);
    let base = Instant::now();
    let mut targets: Vec<Target> = (0..scene.targets)
        .map(|_| Target {
            load: Load::default(),
            free: 0.0,
            running: 0,
            latency: [0.0; COUNTED],
        })
        .collect();
    // When calls end, in nanoseconds, where, how long they took, how many were there before.
    let mut ends: BinaryHeap<Reverse<(u64, usize, u64, usize)>> = BinaryHeap::new();
    let mut took = Vec::new();
    let mut now = 0.0;
    for call in 0..CALLS {
        now += -(1.0 - random.random::<f64>()).ln() / scene.rate;
        let clock = nanos(now);
        while let Some(Reverse((end, target, lasted, before))) = ends.peek().copied() {
            if end > clock {
                break;
            }
            ends.pop();
            let target = &mut targets[target];
            target.running -= 1;
            let lasted = Duration::from_nanos(lasted);
            target.load.saw(lasted, base + Duration::from_nanos(end));
            let known = &mut target.latency[before];
            let first = *known <= 0.0;
            *known += if first { 1.0 } else { 0.1 } * (lasted.as_secs_f64() - *known);
        }
        let chosen = pick(
            rule,
            &targets,
            call,
            base + Duration::from_nanos(clock),
            &mut random,
        );
        let service = (scene.service)(&mut random, chosen, now);
        let target = &mut targets[chosen];
        let start = if scene.queues {
            target.free.max(now)
        } else {
            now
        };
        let end = start + service;
        target.free = end;
        let before = target.running.min(COUNTED - 1);
        ends.push(Reverse((nanos(end), chosen, nanos(end - now), before)));
        target.running += 1;
        took.push(end - now);
    }
    let took = sorted(took);
    (at(&took, 0.95), at(&took, 0.99))
}

fn nanos(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_nanos()).unwrap_or(u64::MAX)
}

fn pick(rule: Rule, targets: &[Target], call: u64, now: Instant, random: &mut StdRng) -> usize {
    let count = targets.len();
    let least = |among: &[usize], of: &dyn Fn(usize) -> f64| {
        let best = among
            .iter()
            .copied()
            .min_by(|one, other| of(*one).total_cmp(&of(*other)));
        best.unwrap_or_default()
    };
    let cost = |target: usize| targets[target].load.cost(targets[target].running, now);
    let running = |target: usize| targets[target].running as f64;
    let all: Vec<usize> = (0..count).collect();
    let one = random.random_range(0..count);
    let two = [one, (one + random.random_range(1..count)) % count];
    match rule {
        Rule::RoundRobin => usize::try_from(call).unwrap_or_default() % count,
        Rule::FewestInFlight => least(&all, &running),
        Rule::TwoByInFlight => least(&two, &running),
        Rule::TwoByLoad => least(&two, &cost),
        Rule::BestByLoad => least(&all, &cost),
        Rule::HotCold => {
            let mut counts: Vec<usize> = targets.iter().map(|target| target.running).collect();
            counts.sort_unstable();
            // The 0.84 quantile of calls in flight.
            let limit = counts[(count * 84).div_ceil(100) - 1];
            let cold: Vec<usize> = all
                .iter()
                .copied()
                .filter(|target| targets[*target].running <= limit)
                .collect();
            if cold.is_empty() {
                least(&all, &running)
            } else {
                least(&cold, &|target| targets[target].estimate())
            }
        }
    }
}

pub fn run_all() {
    println!("p95/p99 in ms by balancing rule, no hedge");
    for scene in &SCENES {
        print!("{:<46}", scene.name);
        for (name, rule) in RULES {
            let (p95, p99) = run(scene, rule);
            print!("  {name} {:.0}/{:.0}", p95 * 1e3, p99 * 1e3);
        }
        println!();
    }
}
