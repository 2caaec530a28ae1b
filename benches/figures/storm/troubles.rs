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

/// Which troubles come, each at its time after the beginning, in order.
pub fn plan(
    gateways: usize,
    every: Duration,
    seconds: u32,
    further: Option<Trouble>,
) -> Vec<(Duration, Trouble)> {
    let whole = Duration::from_secs(seconds.into());
    let mut plan: Vec<(Duration, Trouble)> = Vec::new();
    match further {
        Some(trouble @ Trouble::Postgres(_)) => {
            // In the midst between two kills of gateways.
            let first = every * ((whole / 3).as_secs_f64() / every.as_secs_f64()) as u32;
            let second = every * ((whole * 2 / 3).as_secs_f64() / every.as_secs_f64()) as u32;
            plan.push((first + every / 2, trouble));
            plan.push((second + every / 2, trouble));
        }
        Some(trouble) => plan.push((whole / 3, trouble)),
        None => {}
    }
    let mut at = every;
    let mut turn = 0;
    while at < whole {
        plan.push((at, Trouble::Gateway(turn % gateways)));
        turn += 1;
        at += every;
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
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: storm\r\nconnection: close\r\n\r\n")
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
