//! What a gateway's process uses, as the system tells it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::storm::Connections;

/// At one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Resident memory, MiB.
    pub memory: f64,
    pub threads: u64,
    pub descriptors: usize,
    /// Tasks that serve callers and jobs, by the gateway's own account.
    pub tasks: u64,
}

/// # Errors
/// The process is gone.
pub fn take(process: u32) -> Result<Vitals> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse::<u64>().ok())
            .context("no number")
    };
    Ok(Vitals {
        memory: number("VmRSS:")? as f64 / 1_024.0,
        threads: number("Threads:")?,
        descriptors: descriptors(process)?,
        tasks: 0,
    })
}

/// # Errors
/// The process is gone.
pub fn descriptors(process: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// The highest number that a descriptor of a process has: a bound under it would take away what is open.
///
/// # Errors
/// The process is gone.
pub fn highest_descriptor(process: u32) -> Result<u64> {
    let all = std::fs::read_dir(format!("/proc/{process}/fd"))?.flatten();
    let numbers = all.filter_map(|one| one.file_name().to_str()?.parse().ok());
    numbers.max().context("no descriptor")
}

/// The bound on a process's descriptors.
///
/// # Errors
/// The process is gone.
pub fn bound(process: u32) -> Result<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits"))?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).context("no bound")
}

/// A metric without labels.
///
/// # Errors
/// The gateway does not answer.
pub async fn metric(admin: SocketAddr, name: &str) -> Result<u64> {
    let (_, page) = Connections::default().get(admin, "/metrics").await?;
    let page = String::from_utf8_lossy(&page);
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .and_then(|value| value.parse().ok())
        .context("no such metric")
}
