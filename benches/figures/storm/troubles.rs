//! What goes wrong in a storm, and when.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::disk::Disk;
use super::house::House;
use crate::cluster::Cluster;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A gateway is killed with -9 and started again at once.
    Gateway(usize),
    /// PostgreSQL is killed with -9 and started again after so long.
    Postgres(Duration),
    /// The file system is full for so long.
    FullDisk(Duration),
}

/// What a gateway's `/readyz` said of a store that could not be written.
#[derive(Clone, Debug)]
pub struct Told {
    pub trouble: Trouble,
    /// How long until it said so; `None`: it did not.
    pub unready_after: Option<Duration>,
    /// Its words.
    pub words: String,
    /// How long after the trouble until it was ready again; `None`: not within half a minute.
    pub ready_after: Option<Duration>,
}

/// What is hit.
pub struct Targets {
    pub house: Arc<House>,
    pub cluster: Option<Cluster>,
    pub disk: Option<Disk>,
}

/// Which troubles come, each at its second after the beginning, in order: a gateway dies every so
/// many seconds, each in its turn; the further one comes in the midst between two of those.
pub fn plan(
    gateways: usize,
    every: u32,
    seconds: u32,
    further: Option<Trouble>,
) -> Vec<(Duration, Trouble)> {
    let second = |second: u32| Duration::from_secs(second.into());
    let between = |at: u32| second(at / every * every) + second(every) / 2;
    let kills = (1..).map(|number| number * every);
    let turns = (0..gateways).cycle().map(Trouble::Gateway);
    let mut plan: Vec<_> = kills
        .take_while(|at| *at < seconds)
        .map(second)
        .zip(turns)
        .collect();
    match further {
        Some(trouble @ Trouble::Postgres(_)) => {
            // In a short run a second time would come before the first is over.
            let times = if seconds < 60 { 1 } else { 2 };
            plan.extend((1..=times).map(|time| (between(seconds * time / 3), trouble)));
        }
        Some(trouble) => plan.push((second(seconds / 3), trouble)),
        None => {}
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// Asks a gateway whether it is ready.
fn ready(house: &House) -> Option<(u16, String)> {
    let living = house.living();
    let admin = living.first()?.admin;
    let patience = Duration::from_secs(2);
    let mut connection = TcpStream::connect_timeout(&admin, patience).ok()?;
    connection.set_read_timeout(Some(patience)).ok()?;
    connection
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .ok()?;
    let mut told = String::new();
    connection.read_to_string(&mut told).ok()?;
    let (head, words) = told.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, words.trim().to_owned()))
}

/// Waits until `/readyz` has this status: how long it took, and its words.
fn becomes(house: &House, status: u16, longest: Duration) -> Option<(Duration, String)> {
    let began = Instant::now();
    while began.elapsed() < longest {
        if let Some((told, words)) = ready(house)
            && told == status
        {
            return Some((began.elapsed(), words));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Makes trouble as planned, until the last is over. Gives what `/readyz` said of it.
///
/// # Errors
/// Something did not come back.
pub fn make(plan: &[(Duration, Trouble)], targets: &mut Targets) -> Result<Vec<Told>> {
    let began = Instant::now();
    let mut told = Vec::new();
    for (at, trouble) in plan {
        std::thread::sleep(at.saturating_sub(began.elapsed()));
        match *trouble {
            Trouble::Gateway(gateway) => {
                targets.house.kill(gateway)?;
                targets.house.run(gateway)?;
            }
            Trouble::Postgres(rest) => {
                let cluster = targets.cluster.as_mut().context("no PostgreSQL")?;
                cluster.kill()?;
                let unready = watch(&targets.house, rest);
                cluster.run()?;
                told.push(recovery(&targets.house, *trouble, unready));
            }
            Trouble::FullDisk(rest) => {
                let disk = targets.disk.as_ref().context("no disk")?;
                disk.fill()?;
                let unready = watch(&targets.house, rest);
                disk.free()?;
                told.push(recovery(&targets.house, *trouble, unready));
            }
        }
    }
    Ok(told)
}

/// Watches `/readyz` for the whole of a trouble's time.
fn watch(house: &House, rest: Duration) -> Option<(Duration, String)> {
    let began = Instant::now();
    let unready = becomes(house, 503, rest);
    std::thread::sleep(rest.saturating_sub(began.elapsed()));
    unready
}

fn recovery(house: &House, trouble: Trouble, unready: Option<(Duration, String)>) -> Told {
    let ready = becomes(house, 200, Duration::from_secs(30));
    let (unready_after, words) = unready.unzip();
    Told {
        trouble,
        unready_after,
        words: words.unwrap_or_default(),
        ready_after: ready.map(|(took, _)| took),
    }
}
