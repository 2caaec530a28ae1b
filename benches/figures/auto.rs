//! `hedge.after = "auto"` against every fixed percentile, on six distributions, in virtual time.
//!
//! The gateway's own recorders, windows, bucket and rule decide; calls, clock and latencies are
//! simulated. Every policy meets the same calls: a call's times are drawn from its number. At
//! half-time the distribution is scaled threefold; the minute after each change is left out.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use shunt::config::{Hedge, HedgeAfter};
use shunt::hot::Line;
use shunt::latency::{RatioBucket, set_shard};
use shunt::meter::{Meter, RouteMeter, Sampled};

use super::rig::{at, sorted};

const RATE: f64 = 100.0;
/// Seconds of virtual time before and after the change.
const HALF: f64 = 900.0;
const SETTLING: f64 = 60.0;
const CAP: f64 = 0.05;
const PERCENTILES: [f64; 11] = [
    50.0, 60.0, 70.0, 80.0, 85.0, 90.0, 93.0, 95.0, 97.0, 98.0, 99.0,
];

/// The first and the second attempt's time in seconds, of a call at a time.
type Draw = fn(&mut StdRng, f64) -> (f64, f64);

const DISTRIBUTIONS: [(&str, Draw); 6] = [
    ("log-normal", |random, _| {
        (0.4 * lognormal(random, 1.0), 0.4 * lognormal(random, 1.0))
    }),
    ("Pareto", |random, _| (pareto(random), pareto(random))),
    ("bimodal", |random, _| (bimodal(random), bimodal(random))),
    ("two-speed targets", |random, _| {
        let times = [0.3 * lognormal(random, 0.4), 0.9 * lognormal(random, 0.4)];
        let first = usize::from(random.random::<bool>());
        // The second attempt goes to the other target.
        (times[first], times[1 - first])
    }),
    ("correlated slow periods", |random, now| {
        let slow = if now % 60.0 < 6.0 { 5.0 } else { 1.0 };
        (slow * bimodal(random), slow * bimodal(random))
    }),
    ("LLM-like", |random, _| {
        let prompt = 1.0 + 0.3 * lognormal(random, 1.0);
        (prompt * first_token(random), prompt * first_token(random))
    }),
];

fn lognormal(random: &mut StdRng, sigma: f64) -> f64 {
    // Box and Muller (1958).
    let (one, two): (f64, f64) = (random.random(), random.random());
    let normal = (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * two).cos();
    (sigma * normal).exp()
}

fn pareto(random: &mut StdRng) -> f64 {
    0.1 / (1.0 - random.random::<f64>()).powf(1.0 / 1.5)
}

fn bimodal(random: &mut StdRng) -> f64 {
    let slow = random.random::<f64>() < 0.05;
    0.4 * lognormal(random, 0.3) * if slow { 10.0 } else { 1.0 }
}

fn first_token(random: &mut StdRng) -> f64 {
    if random.random::<f64>() < 0.03 {
        random.random_range(3.0..10.0)
    } else {
        0.4 * lognormal(random, 0.5)
    }
}

/// What happens at a moment of virtual time.
enum What {
    /// The first attempt has no answer at its delay.
    Due {
        began: f64,
        times: (f64, f64),
    },
    Ended(bool, f64),
    GivenUp(bool, f64),
}

struct Event(f64, What);

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What a policy made of the calls: p99 before and after the change, and extra calls per call.
struct Made {
    before: f64,
    after: f64,
    extra: f64,
}

struct World {
    settings: Hedge,
    line: Line,
    meter: Arc<Meter>,
    bucket: RatioBucket,
    events: BinaryHeap<Reverse<Event>>,
    /// Arrival and latency.
    took: Vec<(f64, f64)>,
    extra: u64,
}

impl World {
    fn new(after: HedgeAfter) -> Self {
        let meter = Meter::new(1);
        let route = RouteMeter::new(&meter, "simulated");
        Self {
            line: Line::new(&route.streams),
            meter,
            bucket: RatioBucket::new(CAP, 10),
            settings: Hedge {
                after,
                max_extra: CAP,
                ..Hedge::default()
            },
            events: BinaryHeap::new(),
            took: Vec::new(),
            extra: 0,
        }
    }

    fn run(mut self, draw: Draw) -> Made {
        let end = 2.0 * HALF;
        let mut second = 1.0;
        let mut random = StdRng::seed_from_u64(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let calls = (end * RATE) as u64;
        for call in 0..calls {
            let now = call as f64 / RATE;
            while second <= now {
                self.happen(second);
                self.meter.tick(Duration::from_secs_f64(second));
                self.line.learn(&self.settings);
                second += 1.0;
            }
            self.happen(now);
            let scale = if now < HALF { 1.0 } else { 3.0 };
            let mut own = StdRng::seed_from_u64(call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (one, two) = draw(&mut own, now);
            self.arrive(now, (scale * one, scale * two), &mut random);
        }
        self.happen(f64::INFINITY);
        let p99 = |from: f64, to: f64| {
            let within = self.took.iter().filter(|(at, _)| (from..to).contains(at));
            at(&sorted(within.map(|(_, took)| *took).collect()), 0.99)
        };
        Made {
            before: p99(SETTLING, HALF),
            after: p99(HALF + SETTLING, end),
            extra: self.extra as f64 / calls as f64,
        }
    }

    fn arrive(&mut self, now: f64, times: (f64, f64), random: &mut StdRng) {
        self.bucket.earn();
        let chance: f64 = random.random();
        let rule = self.line.rule().filter(|rule| chance < rule.share);
        let delay = rule.map_or(f64::INFINITY, |rule| rule.delay.as_secs_f64());
        if times.0 <= delay {
            self.at(now + times.0, What::Ended(false, times.0));
            self.took.push((now, times.0));
        } else {
            let began = now;
            self.at(now + delay, What::Due { began, times });
        }
    }

    fn at(&mut self, time: f64, what: What) {
        self.events.push(Reverse(Event(time, what)));
    }

    fn happen(&mut self, until: f64) {
        while self
            .events
            .peek()
            .is_some_and(|Reverse(next)| next.0 <= until)
        {
            let Some(Reverse(Event(now, what))) = self.events.pop() else {
                return;
            };
            let duration = Duration::from_secs_f64;
            match what {
                What::Ended(second, took) => self.sampled(second).ended(duration(took)),
                What::GivenUp(second, age) => self.sampled(second).given_up(duration(age)),
                What::Due { began, times } => self.due(now, began, times),
            }
        }
    }

    fn sampled(&self, second: bool) -> &Arc<Sampled> {
        if second {
            &self.line.second
        } else {
            &self.line.first
        }
    }

    fn due(&mut self, now: f64, began: f64, (one, two): (f64, f64)) {
        let delay = now - began;
        if !self.bucket.try_spend() {
            self.at(began + one, What::Ended(false, one));
            self.took.push((began, one));
            return;
        }
        self.extra += 1;
        let took = one.min(delay + two);
        self.took.push((began, took));
        let first_wins = one <= delay + two;
        let (first, second) = if first_wins {
            (What::Ended(false, one), What::GivenUp(true, one - delay))
        } else {
            (What::GivenUp(false, took), What::Ended(true, two))
        };
        self.at(began + took, first);
        self.at(began + took, second);
    }
}

pub fn run() {
    set_shard(0);
    println!(
        "p99 in seconds after hedging under a cap of {:.0}% (before | after a threefold change)",
        CAP * 100.0
    );
    let mut worst: f64 = 0.0;
    for (name, draw) in DISTRIBUTIONS {
        let none = World::new(HedgeAfter::Off).run(draw);
        let auto = World::new(HedgeAfter::Auto).run(draw);
        let fixed: Vec<(f64, Made)> = PERCENTILES
            .into_iter()
            .map(|percentile| {
                (
                    percentile,
                    World::new(HedgeAfter::Percentile(percentile)).run(draw),
                )
            })
            .collect();
        let best = |of: fn(&Made) -> f64| {
            let all = fixed
                .iter()
                .map(|(percentile, made)| (of(made), *percentile));
            all.min_by(|one, other| one.0.total_cmp(&other.0))
                .unwrap_or_default()
        };
        let (before, after) = (best(|made| made.before), best(|made| made.after));
        println!(
            "{name:<24} none {:6.2} | {:6.2}  best fixed {:6.2} (p{}) | {:6.2} (p{})  auto {:6.2} | {:6.2} \
             with {:.1}% more: {:+.1}% | {:+.1}%",
            none.before,
            none.after,
            before.0,
            before.1,
            after.0,
            after.1,
            auto.before,
            auto.after,
            auto.extra * 100.0,
            (auto.before / before.0 - 1.0) * 100.0,
            (auto.after / after.0 - 1.0) * 100.0
        );
        worst = worst.max(auto.before / before.0).max(auto.after / after.0);
    }
    println!(
        "auto against the best fixed percentile, worst case: {:+.1}%",
        (worst - 1.0) * 100.0
    );
}
