//! The gateway's own code on virtual time: an hour of traffic with seeded faults in seconds.
//!
//! After TigerBeetle's simulator. Everything between a caller's bytes and a provider's is the code
//! that runs in a process; sockets are pipes in memory, the store is `store::memory`, the clock is
//! paused. Checked: deadlines, the cap on hedges, who owns which attempt, whose bytes are whose,
//! and that jobs end once. `SHUNT_SEED=7 cargo test --lib virtual_time` runs
//! another seed.
//!
//! The same seed gives the same callers and faults; what the gateway draws itself (jitter, names)
//! and the order in which `select!` looks are not seeded. One thread: races between threads are
//! for the tests with sockets.

mod caller;
mod checks;
mod entrance;
mod found;
mod gateways;
mod house;
mod identity;
mod ledger;
mod liar;
mod mischief;
mod outage;
mod plan;
mod provider;
mod rude;
mod silent;
mod strangers;
mod waiting;

use std::cell::Cell;
use std::sync::{Arc, Once};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep, sleep_until};

use self::checks::{Account, SLACK};
use self::entrance::Entrance;
use self::house::House;
use self::ledger::Ledger;
use self::plan::Plan;
use self::provider::{Fate, Outage, Provider, connector};
use crate::cold::job::{UnixMillis, virtual_clock};
use crate::cold::store::memory::{Kept, MemoryStore, Reach};
use crate::tasks::Tasks;
use crate::upstream::connect::Connector;

/// What callers and checks share.
#[derive(Clone)]
pub struct World {
    ledger: Ledger,
    entrance: Arc<Entrance>,
    /// Store and clock misbehave.
    ill: bool,
}

/// One run.
#[derive(Clone, Copy)]
struct Run {
    seed: u64,
    /// How long calls arrive.
    length: Duration,
    /// Calls a second.
    rate: u32,
    /// The gateway is stopped with calls under way, and started again.
    restarts: bool,
    /// Store, clock, providers and callers misbehave besides.
    ill: bool,
}

/// Calls a second for some minutes, and nothing that the run itself adds.
const PLAIN: Run = Run {
    seed: 1,
    length: Duration::from_mins(5),
    rate: 1,
    restarts: false,
    ill: false,
};

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts this thread's panics: a runtime swallows those of its tasks.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
    PANICS.set(0);
}

/// A store whose operations take up to 4 ms; an ill one takes seconds now and then.
fn store(kept: &Kept, seed: u64, ill: bool) -> Arc<MemoryStore> {
    let random = std::sync::Mutex::new(StdRng::seed_from_u64(seed));
    let delay = move || {
        let mut random = random.lock().unwrap();
        if ill && random.random_bool(0.02) {
            return Duration::from_millis(random.random_range(0..3_000));
        }
        Duration::from_millis(random.random_range(0..3) * 2)
    };
    Arc::new(MemoryStore::open(kept, 10_000).taking(delay))
}

fn network(run: Run, ledger: &Ledger, tasks: &Tasks, fates: &'static [Fate]) -> Connector {
    let mut random = StdRng::seed_from_u64(run.seed);
    let began = Instant::now() + run.length.mul_f64(random.random_range(0.2..0.6));
    let lasts = Duration::from_mins(1).min(run.length / 4);
    let ill = random.random_range(0..3);
    let provider = |index| {
        let outage = Outage {
            from: began,
            until: began + lasts,
            says: None,
        };
        let outage = (index == ill && fates.is_empty()).then_some(outage);
        let (ledger, tasks) = (ledger.clone(), tasks.clone());
        let provider = Provider::new(index, run.seed, ledger, tasks, outage, fates);
        if run.ill {
            provider.lies();
        }
        provider
    };
    connector([provider(0), provider(1), provider(2)])
}

/// Callers arrive at a constant rate.
async fn traffic(run: Run, world: &World, callers: &Tasks) {
    let mut random = StdRng::seed_from_u64(run.seed ^ 1);
    let (began, between) = (Instant::now(), Duration::from_secs(1) / run.rate);
    let calls = run.length.as_secs() * u64::from(run.rate);
    for call in 0..calls {
        let at = between * u32::try_from(call).unwrap() + between.mul_f64(random.random());
        sleep_until(began + at).await;
        callers.spawn(caller::call(world.clone(), Plan::draw(run.seed, call)));
    }
}

/// At random moments: what the gateway counts as running is what runs at the providers, or waits
/// while a connection to one of them is opened.
async fn audit(house: Arc<House>, ledger: Ledger, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ 2);
    loop {
        sleep(Duration::from_millis(random.random_range(100..3_000))).await;
        let since = Instant::now();
        loop {
            let attempts = house.attempts();
            let (running, connecting) = {
                let book = ledger.book();
                (book.running, book.connecting)
            };
            if attempts == running || attempts > running && connecting > 0 {
                break;
            }
            if since.elapsed() > SLACK {
                let text = "the gateway counts, the providers see, connections are opened";
                ledger.fault(format!("{text}: {attempts}, {running}, {connecting}"));
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A gateway with its callers and its providers.
struct Scene {
    run: Run,
    ledger: Ledger,
    kept: Kept,
    connector: Connector,
    house: Arc<House>,
    world: World,
    /// Connections at the providers, and the callers' own.
    links: [Tasks; 2],
    /// The way to the store.
    reach: Reach,
}

impl Scene {
    async fn open(run: Run, fates: &'static [Fate]) -> Self {
        Self::over(run, |ledger, tasks| network(run, ledger, tasks, fates)).await
    }

    /// A gateway over a network of its own.
    async fn over(run: Run, network: impl FnOnce(&Ledger, &Tasks) -> Connector) -> Self {
        Self::on(run, |kept| store(kept, run.seed, run.ill), network).await
    }

    /// The same on a store of its own.
    async fn on(
        run: Run,
        store: impl FnOnce(&Kept) -> Arc<MemoryStore>,
        network: impl FnOnce(&Ledger, &Tasks) -> Connector,
    ) -> Self {
        count_panics();
        virtual_clock::begin(UnixMillis(1_795_514_400_000));
        let (ledger, kept) = (Ledger::default(), Kept::default());
        let links = [Tasks::new(), Tasks::new()];
        let connector = network(&ledger, &links[0]);
        let store = store(&kept);
        let reach = store.reach.clone();
        let house = House::open(store, connector.clone(), run.length / 60).await;
        let entrance = Entrance::new(house.listeners.clone(), links[1].clone(), run.seed);
        let world = World {
            ledger: ledger.clone(),
            entrance: Arc::new(entrance),
            ill: run.ill,
        };
        Self {
            run,
            ledger,
            kept,
            connector,
            house: Arc::new(house),
            world,
            links,
            reach,
        }
    }

    /// The next gateway over the same store ends what the last one left.
    async fn reopen(&mut self) {
        let store = store(&self.kept, self.run.seed ^ 3, false);
        let house = House::open(store, self.connector.clone(), self.run.length / 60).await;
        let entrance = Entrance::new(house.listeners.clone(), self.links[1].clone(), 0);
        self.house = Arc::new(house);
        self.world.entrance = Arc::new(entrance);
        let left = || {
            let all = self.kept.everything();
            all.iter().any(|row| !row.job.status.is_final())
        };
        let began = Instant::now();
        while left() && began.elapsed() < Duration::from_mins(30) {
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Stops the gateway: nothing of it is left, here or at the providers.
    async fn stop(&self, limit: Duration) {
        self.world.entrance.close();
        let (tasks, attempts) = self.house.drain(limit).await;
        sleep(SLACK).await;
        let running = self.ledger.book().running;
        if (tasks, attempts, running) != (0, 0, 0) {
            let text = "after a drain tasks, attempts, calls at providers are left";
            let found = format!("{text}: {tasks}, {attempts}, {running}");
            self.ledger.fault(found);
        }
        let tapes = self.house.runner.tapes().count();
        // Where jobs are cut short they stay, and the process ends.
        if tapes > 0 && !self.run.restarts {
            self.ledger.fault(format!("{tapes} tapes of jobs are left"));
        }
    }

    /// Holds what happened against the promises; `stopped`: when the gateway was stopped with
    /// calls under way.
    async fn verdict(self, stopped: Option<Instant>) {
        for tasks in &self.links {
            let _ = tokio::time::timeout(SLACK, tasks.ended()).await;
            if tasks.alive() > 0 {
                let text = format!("{} connections are left", tasks.alive());
                self.ledger.fault(text);
            }
        }
        let (book, rows) = (self.ledger.book(), self.kept.everything());
        let now = Instant::now();
        let account = Account::new(&book, &rows, now, stopped);
        let mut faults = account.with_an_ill_store(self.run.ill).faults();
        if PANICS.get() > 0 {
            faults.push(format!("{} tasks panicked", PANICS.get()));
        }
        let (seed, count) = (self.run.seed, faults.len());
        let (calls, sent, jobs) = (book.seen.len(), book.sent.len(), rows.len());
        eprintln!("seed {seed}: {calls} calls, {sent} sent to providers, {jobs} jobs");
        faults.truncate(20);
        assert!(
            faults.is_empty(),
            "SHUNT_SEED={seed} breaks {count} promises:\n{}",
            faults.join("\n")
        );
    }
}

async fn simulate(run: Run) {
    let mut scene = Scene::open(run, &[]).await;
    let (callers, audits) = (Tasks::new(), Tasks::new());
    audits.spawn(audit(scene.house.clone(), scene.ledger.clone(), run.seed));
    if run.ill {
        mischief::make(run, &scene, &audits, &callers);
    }
    traffic(run, &scene.world, &callers).await;
    let stopped = run.restarts.then(Instant::now);
    let limit = if run.restarts {
        Duration::from_secs(1)
    } else {
        callers.ended().await;
        Duration::from_secs(30)
    };
    audits.cut();
    scene.reach.cut(false);
    scene.stop(limit).await;
    callers.ended().await;
    if run.restarts {
        scene.reopen().await;
        scene.stop(Duration::from_secs(1)).await;
    }
    scene.verdict(stopped).await;
}

/// The seed of a test, unless the environment sets another.
fn seed(otherwise: u64) -> u64 {
    let set = std::env::var("SHUNT_SEED").ok();
    set.map_or(otherwise, |text| {
        text.parse().expect("SHUNT_SEED is a number")
    })
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_traffic_keeps_every_promise() {
    simulate(Run {
        seed: seed(1),
        length: Duration::from_hours(1),
        rate: 1,
        restarts: false,
        ill: false,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn dense_traffic_keeps_every_promise() {
    simulate(Run {
        seed: seed(2),
        length: Duration::from_mins(2),
        rate: 20,
        restarts: false,
        ill: false,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_midst_leaves_nothing_running_and_loses_no_job() {
    simulate(Run {
        seed: seed(3),
        length: Duration::from_mins(1),
        rate: 20,
        restarts: true,
        ill: false,
    })
    .await;
}
