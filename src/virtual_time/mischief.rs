//! A store that is away now and then, a clock of the day that jumps, callers who do not keep to HTTP.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use super::{Run, Scene, rude, seed, simulate};
use crate::cold::job::virtual_clock;
use crate::cold::store::memory::Reach;
use crate::tasks::Tasks;

fn millis(from: u64, to: u64, random: &mut StdRng) -> Duration {
    Duration::from_millis(random.random_range(from..to))
}

/// The store cannot be reached for some seconds, again and again; what was written may be written
/// though nobody hears of it.
async fn cut_off(reach: Reach, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ (1 << 40));
    loop {
        sleep(millis(5_000, 40_000, &mut random)).await;
        reach.cut(true);
        sleep(millis(50, 6_000, &mut random)).await;
        reach.cut(false);
    }
}

/// The clock of the day is set, by up to three minutes, ahead or back.
async fn set_the_clock(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ (1 << 41));
    loop {
        sleep(millis(10_000, 90_000, &mut random)).await;
        virtual_clock::jump(random.random_range(-180_000..180_000));
    }
}

/// Begins all of it; `callers` end by themselves.
pub(super) fn make(run: Run, scene: &Scene, until_cut: &Tasks, callers: &Tasks) {
    until_cut.spawn(cut_off(scene.reach.clone(), run.seed));
    until_cut.spawn(set_the_clock(run.seed));
    let (world, owner) = (scene.world.clone(), callers.clone());
    until_cut.spawn(async move {
        let mut random = StdRng::seed_from_u64(run.seed ^ (1 << 42));
        for call in rude::FIRST.. {
            sleep(millis(0, 4_000 / u64::from(run.rate), &mut random)).await;
            let random = StdRng::seed_from_u64(run.seed ^ call);
            owner.spawn(rude::call(world.clone(), call, random));
        }
    });
}

#[tokio::test(start_paused = true)]
async fn when_all_misbehave_every_promise_is_kept() {
    simulate(Run {
        seed: seed(4),
        length: Duration::from_mins(6),
        rate: 2,
        restarts: false,
        ill: true,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_all_misbehave_loses_no_job() {
    simulate(Run {
        seed: seed(5),
        length: Duration::from_mins(1),
        rate: 8,
        restarts: true,
        ill: true,
    })
    .await;
}

/// By hand: `SHUNT_HOURS=8 cargo test --release --lib virtual_time::mischief -- --nocapture`; an hour a
/// seed, from `SHUNT_SEED` on.
#[test]
fn for_as_many_hours_as_are_asked_for_every_promise_is_kept() {
    let hours = std::env::var("SHUNT_HOURS").map_or(0, |text| {
        text.parse::<u64>().expect("SHUNT_HOURS is a number")
    });
    for hour in 0..hours {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(simulate(Run {
            seed: seed(1_000) + hour,
            length: Duration::from_hours(1),
            rate: 2,
            restarts: hour % 4 == 3,
            ill: true,
        }));
    }
}
