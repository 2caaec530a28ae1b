//! What the kernel tells of the proxy's process.

use anyhow::{Context as _, Result};

/// Proportional memory of a process, in bytes.
pub fn pss(process: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("smaps_rollup has a Pss")?
        .parse()?;
    Ok(kib * 1024.0)
}

/// The value at a share of sorted samples; nothing of none.
pub fn at<T: Copy + Default>(sorted: &[T], share: f64) -> T {
    let wanted = share * sorted.len() as f64;
    let found = (1..=sorted.len()).find(|rank| *rank as f64 >= wanted);
    found.map_or_else(T::default, |rank| sorted[rank - 1])
}
