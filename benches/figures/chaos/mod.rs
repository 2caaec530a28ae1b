//! Chaos: real gateways, stores and sockets, callers of every kind at a constant rate, and faults of the
//! machine and of the world, drawn from a seed. Nothing hangs, nothing is lost, nothing is left over.

mod callers;
mod control;
mod faults;
mod gateways;
mod ledger;
mod names;
mod proxy;
mod settle;
mod vitals;

use std::collections::HashMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use clap::Parser as _;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use self::callers::{Done, Street, arrive};
use self::control::Control;
use self::faults::{Ground, Made, Pace};
use self::gateways::ALL;
use self::ledger::Course;
use self::names::Names;
use self::proxy::Proxy;
use self::settle::Found;
use self::vitals::Vitals;
use crate::cluster::Cluster;
use crate::storm::disk::Disk;
use crate::storm::receiver::Receiver;
use crate::storm::{Calls, Connections, Report, provide};

/// Options of `loadtest/run chaos`.
#[derive(Clone, Debug, clap::Parser)]
#[command(no_binary_name = true, name = "loadtest/run chaos")]
struct Options {
    /// How long faults go on; 20, or a third of one with `--quick`.
    #[arg(long)]
    minutes: Option<f64>,
    /// Calls a second; 40, or 30 with `--quick`.
    #[arg(long)]
    rate: Option<u32>,
    /// Where callers and faults are drawn from.
    #[arg(long)]
    seed: Option<u64>,
    /// A short run for the tests.
    #[arg(long)]
    quick: bool,
}

impl Options {
    fn length(&self) -> Duration {
        let minutes = if self.quick { 1.0 / 3.0 } else { 20.0 };
        Duration::from_secs_f64(60.0 * self.minutes.unwrap_or(minutes))
    }

    fn rate(&self) -> u32 {
        self.rate.unwrap_or(if self.quick { 30 } else { 40 })
    }

    fn pace(&self) -> Pace {
        // A clock jumps by less than jobs may take to end: what was written ahead of time is due later.
        let (lasts, rests, jumps) = if self.quick {
            ((700, 1_500), (200, 500), (5, 25))
        } else {
            ((2_000, 10_000), (1_000, 5_000), (15, 120))
        };
        Pace {
            lasts,
            rests,
            jumps,
        }
    }

    /// Load without faults before them; how long jobs may take to end; rest before the last look.
    fn spans(&self) -> [Duration; 3] {
        let spans = if self.quick {
            [4, 60, 8]
        } else {
            [30, 180, 20]
        };
        spans.map(Duration::from_secs)
    }
}

/// Says in which environment this process is the second one.
const INSIDE: &str = "CHAOS_INSIDE";

/// Starts this program again with file systems of its own: a name server is written into its
/// /etc/resolv.conf and nobody else's.
fn go_inside() -> Result<()> {
    let failed = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    bail!("unshare: {failed}")
}

pub fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse_from(arguments);
    let user = Command::new("id").arg("-u").output()?;
    if user.stdout != b"0\n" {
        bail!("chaos mounts a disk to fill and answers on port 53; run it as root");
    }
    if std::env::var_os(INSIDE).is_none() {
        return go_inside();
    }
    let chaos = Chaos::prepare(options)?;
    let report = chaos.reign()?;
    for line in &report.lines {
        println!("chaos: {line}");
    }
    if report.broken.is_empty() {
        println!("chaos: every promise was kept");
        return Ok(());
    }
    for gateway in 0..ALL {
        let log = chaos.ground.house.log(gateway);
        eprintln!("the end of gateway {gateway}'s log:\n{log}");
    }
    let seed = chaos.seed;
    bail!(
        "--seed {seed} breaks promises:\n  {}",
        report.broken.join("\n  ")
    )
}

/// A run that has not begun.
struct Chaos {
    options: Options,
    seed: u64,
    runtime: Runtime,
    ground: Ground,
    calls: Calls,
    receiver: Receiver,
    control: Control,
    _kept: (tempfile::TempDir, JoinSet<()>),
}

/// MiB of the disk that is filled.
const ROOM: u32 = 512;

impl Chaos {
    /// Starts everything but the load.
    fn prepare(options: Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let (disk, cluster) = (Disk::mount(ROOM)?, Cluster::start()?);
        let folder = tempfile::tempdir()?;
        let secret = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 32]>());
        let secret = format!("whsec_{secret}");
        let (calls, receiver) = (Calls::default(), Receiver::new(&secret)?);
        let mut tasks = JoinSet::new();
        let (providers, hook, names, control) = runtime.block_on(async {
            let alone = provide(1, &Calls::default(), &mut tasks).await?;
            let control = Control::start(alone[0], &mut tasks);
            let found = provide(2, &calls, &mut tasks).await?;
            let near = Proxy::start(found[0], &mut tasks).await?;
            let far = Proxy::start(found[1], &mut tasks).await?;
            let hook = receiver.start(&mut tasks).await?;
            let hook = Proxy::start(hook, &mut tasks).await?;
            let names = Names::start(folder.path(), &mut tasks).await?;
            anyhow::Ok(([near, far], hook, names, control))
        })?;
        let house = gateways::start(&gateways::Ground {
            folder: folder.path(),
            secret: &secret,
            postgres: &cluster.url(),
            file: &format!("sqlite:{}/jobs.db", disk.path().display()),
            providers: [providers[0].address, providers[1].address],
            receiver: hook.address,
        })?;
        Ok(Self {
            seed: options
                .seed
                .unwrap_or_else(|| u64::from(rand::random::<u16>())),
            options,
            runtime,
            ground: Ground {
                folder: folder.path().to_owned(),
                house: Arc::new(house),
                cluster: Mutex::new(cluster),
                disk,
                providers,
                receiver: hook,
                names,
                made: Mutex::new(Made::default()),
                began: Instant::now(),
            },
            calls,
            receiver,
            control,
            _kept: (folder, tasks),
        })
    }

    /// The load, the faults, the rest; and then everything is looked at.
    fn reign(&self) -> Result<Report> {
        let [warm_up, settles, rest] = self.options.spans();
        let street = |connections: &Connections| {
            Arc::new(Street {
                house: self.ground.house.clone(),
                connections: connections.clone(),
                receiver: self.ground.receiver.address,
                seed: self.seed,
            })
        };
        let rate = self.options.rate();
        std::thread::sleep(rest.min(Duration::from_secs(3)));
        let before = self.processes();
        let idle = self.look()?;
        eprintln!("chaos: seed {}, warming up", self.seed);
        let connections = Connections::default();
        let mut all = self
            .runtime
            .block_on(arrive(street(&connections), rate, warm_up, 0))?;
        drop(connections);
        std::thread::sleep(rest);
        let warm = self.look()?;

        let length = self.options.length();
        let first = u32::try_from(all.len()).unwrap_or(0) + 1_000_000;
        let connections = Connections::default();
        let load = self
            .runtime
            .spawn(arrive(street(&connections), rate, length, first));
        let most = self.trouble(length)?;
        all.extend(self.runtime.block_on(load)??);
        drop(connections);
        let house = &self.ground.house;
        let settling = settle::wait(&all, house, &self.receiver, settles);
        let (found, settled) = self.runtime.block_on(settling);
        std::thread::sleep(rest);
        let (end, after) = (self.look()?, self.processes());
        let courses = (0..ALL).map(|gateway| Course {
            gateway,
            same: before[gateway] == after[gateway],
            idle: idle[gateway],
            warm: warm[gateway],
            most: most[gateway],
            end: end[gateway],
        });
        let courses: Vec<_> = courses.collect();
        Ok(self.judge(&all, &found, settled, &courses))
    }

    /// Makes faults for so long; gives the most that each gateway used meanwhile.
    fn trouble(&self, length: Duration) -> Result<[Vitals; ALL]> {
        let (seed, pace, ended) = (self.seed, self.options.pace(), AtomicBool::new(false));
        let until = Instant::now() + length;
        std::thread::scope(|scope| {
            let world = scope.spawn(|| self.ground.trouble_the_world(seed, pace, until));
            let watch = scope.spawn(|| self.watch(&ended));
            let done = self.ground.trouble_the_machine(seed, pace, length);
            let _ = world.join();
            ended.store(true, Ordering::Relaxed);
            let most = watch.join();
            done?;
            most.map_err(|_| anyhow::anyhow!("the watch panicked"))
        })
    }

    fn watch(&self, ended: &AtomicBool) -> [Vitals; ALL] {
        let mut most = [Vitals::default(); ALL];
        while !ended.load(Ordering::Relaxed) {
            for (gateway, most) in most.iter_mut().enumerate() {
                let process = self.ground.house.process(gateway);
                let Some(Ok(now)) = process.map(vitals::take) else {
                    continue;
                };
                most.memory = most.memory.max(now.memory);
                most.threads = most.threads.max(now.threads);
                most.descriptors = most.descriptors.max(now.descriptors);
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        most
    }

    fn processes(&self) -> [Option<u32>; ALL] {
        std::array::from_fn(|gateway| self.ground.house.process(gateway))
    }

    fn look(&self) -> Result<[Vitals; ALL]> {
        let mut all = [Vitals::default(); ALL];
        for living in self.ground.house.living().iter() {
            let process = self
                .ground
                .house
                .process(living.gateway)
                .context("no process")?;
            let tasks = vitals::metric(living.admin, "shunt_tasks");
            // What the question itself takes is gone again when its connection is.
            let tasks = self.runtime.block_on(tasks)?;
            all[living.gateway] = Vitals {
                tasks,
                ..vitals::take(process)?
            };
        }
        Ok(all)
    }

    fn judge(
        &self,
        all: &[Done],
        found: &HashMap<u32, Found>,
        settled: Duration,
        courses: &[Course],
    ) -> Report {
        let mut report = Report::default();
        let made = self
            .ground
            .made
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        report.say(format!(
            "seed {}, {:.1} minutes of faults",
            self.seed,
            self.options.length().as_secs_f64() / 60.0
        ));
        report.say(format!(
            "{} faults: {:?}",
            made.kinds.values().sum::<u32>(),
            made.kinds
        ));
        let unkept: Vec<_> = (0..ALL)
            .map(|gateway| self.ground.house.told(gateway, "was not kept under its"))
            .collect();
        ledger::keys(&mut report, all, &made, &unkept);
        ledger::calls(&mut report, all, &made, &self.control, self.ground.began);
        ledger::jobs(&mut report, all, found);
        report.say(format!(
            "the last job ended and was called back {:.1} s after the load",
            settled.as_secs_f64()
        ));
        let missing = settle::uncalled(all, &self.receiver);
        let arrived = self.receiver.arrived();
        ledger::callbacks(&mut report, all, &arrived, &missing, found, &made);
        report.say(format!(
            "calls that came to providers: {}",
            self.calls.came()
        ));
        ledger::vitals(&mut report, courses, self.calls.running());
        report.broken.extend(made.broken.iter().cloned());
        report
    }
}
