//! What it costs to tell of every call: an access log, traces of a tenth of the calls, a page that is open
//! and a scrape each second, against the same gateway of which nobody asks anything, and a bare proxy.
//!
//! The three take turns in one process. Throughput is that of the one worker on a core of its own; CPU is
//! that of all of a gateway's threads, so that what is told on others counts as well.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

use super::cost::{Around, ROUNDS, ROUTES, Round, bare, median, ratio, round};
use super::rig::gateway;

/// Asks the admin listener; what it answers is read and thrown away.
fn asks(admin: SocketAddr, path: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let (mut buffer, mut bytes) = ([0; 16_384], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return Ok(bytes),
            Ok(read) => bytes += read as u64,
        }
    }
}

/// A page that stays open until the gateway ends, and a scraper.
fn watch(admin: SocketAddr) -> Result<()> {
    std::thread::Builder::new()
        .name("page".into())
        .spawn(move || asks(admin, "/api/live"))?;
    std::thread::Builder::new()
        .name("scraper".into())
        .spawn(move || {
            while asks(admin, "/metrics").is_ok_and(|bytes| bytes > 0) {
                std::thread::sleep(Duration::from_secs(1));
            }
        })?;
    Ok(())
}

/// Threads of a gateway: all but those of load, provider, bare proxy and watchers.
fn of_gateways(name: &str) -> bool {
    !["main", "bare", "page", "scraper"].contains(&name)
}

pub fn run() -> Result<()> {
    let around = Around::begin()?;
    let provider = around.provider;
    let bare = bare(provider)?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("calls.log");
    let told = format!(
        "{ROUTES}[access_log]\nformat = \"json\"\nfile = \"{}\"\n\
         [traces]\nendpoint = \"http://{provider}\"\nprotocol = \"http\"\nsample = 0.1\n",
        log.display()
    );
    let (quiet, _quiet) = gateway(provider, "openai", ROUTES)?;
    let (loud, _loud) = gateway(provider, "openai", &told)?;
    watch(loud.admin)?;
    let (mut bares, mut quiets, mut louds) = (Vec::new(), Vec::new(), Vec::new());
    around.runtime.block_on(async {
        for _ in 0..ROUNDS {
            bares.push(round(bare, |name| name == "bare").await?);
            quiets.push(round(quiet.public, of_gateways).await?);
            louds.push(round(loud.public, of_gateways).await?);
        }
        anyhow::Ok(())
    })?;
    let rate = |one: &Round| one.rate;
    let micros = |one: &Round| one.micros;
    for (name, rounds) in [
        ("bare hyper proxy", &bares),
        ("nothing told", &quiets),
        ("all told", &louds),
    ] {
        let (of_bare, cpu) = (ratio(rounds, &bares, rate), median(rounds, micros));
        let rate = median(rounds, rate);
        println!(
            "{name:<18}{rate:>9.0} requests/s, {of_bare:.2} of bare{cpu:>8.1} us CPU a request"
        );
    }
    let lines = std::fs::metadata(&log)?.len();
    println!(
        "all told: {:.3} of the throughput, {:.3} of the CPU a request; {} MiB of lines",
        ratio(&louds, &quiets, rate),
        ratio(&louds, &quiets, micros),
        lines >> 20
    );
    loud.drain();
    quiet.drain();
    Ok(())
}
