//! What goes wrong, drawn from a seed, and how it is made and healed. Two kinds of faults come at the same
//! time: of the machine that gateways and stores are on, and of the world that they call.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::gateways::{ALL, ALONE, TOGETHER, set_clock};
use super::names::{Ailing, Names};
use super::proxy::{Proxy, Weather};
use super::vitals;
use crate::cluster::Cluster;
use crate::storm::disk::Disk;
use crate::storm::house::{House, tell};

/// A fault of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A gateway is killed with -9, and started again.
    Kill,
    /// A gateway is ended with SIGTERM, and started again.
    Terminate,
    /// A gateway stands still, and its clocks go on.
    Pause,
    /// A gateway reads its configuration again.
    Reload,
    /// PostgreSQL is killed with -9.
    StoreKilled,
    /// PostgreSQL stands still.
    StoreStopped,
    /// The disk of the gateway with a file is full.
    DiskFull,
    /// A gateway may open no more descriptors.
    Descriptors,
    /// A gateway's clock of the day jumps, and back.
    Clock,
    /// Hundreds of connections to a gateway on which nothing is sent.
    Flood,
}

/// A fault of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum World {
    Providers(Weather),
    Receiver(Weather),
    Names(Ailing),
}

impl Machine {
    fn silences_a_store(self) -> bool {
        matches!(
            self,
            Self::StoreKilled | Self::StoreStopped | Self::DiskFull | Self::Pause
        )
    }
}

const MACHINE: [Machine; 10] = [
    Machine::Kill,
    Machine::Terminate,
    Machine::Pause,
    Machine::Reload,
    Machine::StoreKilled,
    Machine::StoreStopped,
    Machine::DiskFull,
    Machine::Descriptors,
    Machine::Clock,
    Machine::Flood,
];

const WORLD: [World; 10] = [
    World::Providers(Weather::Refuses),
    World::Providers(Weather::Resets),
    World::Providers(Weather::Stalls),
    World::Providers(Weather::Truncates),
    World::Providers(Weather::Garbles),
    World::Receiver(Weather::Refuses),
    World::Receiver(Weather::Stalls),
    World::Names(Ailing::Fails),
    World::Names(Ailing::Denies),
    World::Names(Ailing::Silent),
];

/// Connections of a flood.
const FLOOD: usize = 300;

/// When a gateway stood still.
#[derive(Clone, Copy, Debug)]
pub struct Stood {
    pub gateway: usize,
    pub from: Instant,
    pub until: Instant,
}

/// What was made, for the ledger.
#[derive(Default)]
pub struct Made {
    pub kinds: BTreeMap<String, u32>,
    pub stood: Vec<Stood>,
    /// When a store, or a gateway before it, did not answer.
    pub away: Vec<(Instant, Instant)>,
    /// A gateway that did not end as it should.
    pub broken: Vec<String>,
}

/// How long faults last and the rests between them: from, to.
#[derive(Clone, Copy)]
pub struct Pace {
    pub lasts: (u64, u64),
    pub rests: (u64, u64),
    /// Seconds by which clocks jump.
    pub jumps: (i32, i32),
}

fn between((from, to): (u64, u64), random: &mut StdRng) -> Duration {
    Duration::from_millis(random.random_range(from..=to))
}

/// All kinds in random order, again and again.
struct Bag<T: Copy + 'static>(&'static [T], Vec<T>);

impl<T: Copy> Bag<T> {
    fn draw(&mut self, random: &mut StdRng) -> T {
        if self.1.is_empty() {
            self.1 = self.0.to_vec();
            self.1.shuffle(random);
        }
        self.1.pop().expect("it was filled")
    }
}

/// What can be made to fail.
pub struct Ground {
    pub folder: PathBuf,
    pub house: Arc<House>,
    pub cluster: Mutex<Cluster>,
    pub disk: Disk,
    pub providers: [Proxy; 2],
    pub receiver: Proxy,
    pub names: Names,
    pub made: Mutex<Made>,
    pub began: Instant,
}

impl Ground {
    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: &str, further: &str, lasts: Duration) {
        eprintln!(
            "chaos: {:7.1} s: {what} {further} for {:.1} s",
            self.began.elapsed().as_secs_f64(),
            lasts.as_secs_f64()
        );
        *self.made().kinds.entry(what.to_owned()).or_default() += 1;
    }

    /// Faults of the world until then.
    pub fn trouble_the_world(&self, seed: u64, pace: Pace, until: Instant) {
        let mut random = StdRng::seed_from_u64(seed ^ (1 << 32));
        let mut bag = Bag(&WORLD, Vec::new());
        while Instant::now() < until {
            std::thread::sleep(between(pace.rests, &mut random));
            let (fault, lasts) = (bag.draw(&mut random), between(pace.lasts, &mut random));
            // One provider or the other, or both.
            let which = [&[0][..], &[1], &[0, 1]][random.random_range(0..3)];
            let further = match fault {
                World::Providers(_) => format!("{which:?}"),
                _ => String::new(),
            };
            self.note(&format!("{fault:?}"), &further, lasts);
            match fault {
                World::Providers(weather) => {
                    for at in which {
                        self.providers[*at].set(weather);
                    }
                }
                World::Receiver(weather) => self.receiver.set(weather),
                World::Names(ailing) => self.names.set(ailing),
            }
            std::thread::sleep(lasts);
            self.providers.iter().for_each(|one| one.set(Weather::Fair));
            self.receiver.set(Weather::Fair);
            self.names.set(Ailing::Not);
        }
    }

    /// Faults of the machine until then.
    ///
    /// # Errors
    /// One cannot be made, or healed.
    pub fn trouble_the_machine(&self, seed: u64, pace: Pace, length: Duration) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed ^ (1 << 33));
        let mut bag = Bag(&MACHINE, Vec::new());
        let began = Instant::now();
        while began.elapsed() < length {
            std::thread::sleep(between(pace.rests, &mut random));
            let (fault, lasts) = (bag.draw(&mut random), between(pace.lasts, &mut random));
            // The first gateway lives for the whole run; so does the last from a third on.
            let dies = if began.elapsed() < length / 3 {
                1..ALL
            } else {
                1..TOGETHER
            };
            let any = random.random_range(0..ALL);
            let gateway = match fault {
                Machine::Kill | Machine::Terminate => random.random_range(dies),
                Machine::DiskFull => ALONE,
                _ => any,
            };
            let further = match fault {
                Machine::StoreKilled | Machine::StoreStopped => String::new(),
                _ => format!("of gateway {gateway}"),
            };
            self.note(&format!("{fault:?}"), &further, lasts);
            let (least, most) = pace.jumps;
            let ahead = random.random_range(least..most) * [-1, 1][random.random_range(0..2)];
            let from = Instant::now();
            self.make(fault, gateway, lasts, ahead)
                .with_context(|| format!("{fault:?}"))?;
            if fault.silences_a_store() {
                self.made().away.push((from, Instant::now()));
            }
        }
        Ok(())
    }

    /// Connections on which nothing is sent.
    fn flood(&self, gateway: usize) -> Result<Vec<std::io::Result<TcpStream>>> {
        let living = self.house.living();
        let to = living.iter().find(|one| one.gateway == gateway);
        let to = to.context("not alive")?.public;
        let patience = Duration::from_secs(1);
        let flood = (0..FLOOD).map(|_| TcpStream::connect_timeout(&to, patience));
        Ok(flood.collect())
    }

    fn make(&self, fault: Machine, gateway: usize, lasts: Duration, ahead: i32) -> Result<()> {
        let process = self.house.process(gateway).context("no process")?;
        let cluster = || self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Machine::Kill => {
                self.house.kill(gateway)?;
                std::thread::sleep(lasts);
                self.house.run(gateway)?;
            }
            Machine::Terminate => {
                let ended = self.house.end(gateway, "-TERM")?;
                if !ended.is_some_and(|ended| ended.success()) {
                    let text = format!("gateway {gateway} ended with {ended:?} at SIGTERM");
                    self.made().broken.push(text);
                }
                self.house.run(gateway)?;
            }
            Machine::Pause => {
                let from = Instant::now();
                tell(process, "-STOP")?;
                std::thread::sleep(lasts);
                tell(process, "-CONT")?;
                let until = Instant::now();
                self.made().stood.push(Stood {
                    gateway,
                    from,
                    until,
                });
            }
            Machine::Reload => tell(process, "-HUP")?,
            Machine::StoreKilled => {
                cluster().kill()?;
                std::thread::sleep(lasts);
                cluster().run()?;
            }
            Machine::StoreStopped => {
                cluster().tell("-STOP")?;
                std::thread::sleep(lasts);
                cluster().tell("-CONT")?;
            }
            Machine::DiskFull => {
                self.disk.fill()?;
                std::thread::sleep(lasts);
                self.disk.free()?;
            }
            Machine::Descriptors => {
                let before = vitals::bound(process)?;
                // The numbers that are in use and a few more, which idle connections use up.
                bound(process, vitals::highest_descriptor(process)? + 8)?;
                let flood = self.flood(gateway)?;
                std::thread::sleep(lasts);
                drop(flood);
                bound(process, before)?;
            }
            Machine::Clock => {
                set_clock(&self.folder, gateway, ahead)?;
                std::thread::sleep(lasts);
                set_clock(&self.folder, gateway, 0)?;
            }
            Machine::Flood => {
                let flood = self.flood(gateway)?;
                std::thread::sleep(lasts);
                drop(flood);
            }
        }
        Ok(())
    }
}

/// Sets how many descriptors a process may have.
fn bound(process: u32, count: u64) -> Result<()> {
    let told = Command::new("prlimit")
        .args(["--pid", &process.to_string(), &format!("--nofile={count}:")])
        .output()
        .context("prlimit; install the Debian package util-linux")?;
    let why = String::from_utf8_lossy(&told.stderr);
    ensure!(told.status.success(), "prlimit: {why}");
    Ok(())
}
