//! The figures that the README quotes. `cargo bench --bench figures -- NAME`; names: `auto`, `balance`,
//! `bytes`,
//! `cancel`, `cost`, `degrade`, `hedge`, `leaves`, `outage`, `overload`, `percentiles`,
//! `predict`, `queue`, `quota`. Everything runs on loopback, in
//! this process.

mod auto;
mod balance;
mod behave;
mod bytes;
mod cancel;
mod cost;
mod degrade;
mod hedge;
mod leaves;
mod outage;
mod overload;
mod percentiles;
mod predict;
mod queue;
mod quota;
mod rig;

/// The allocator of the real binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| !one.starts_with('-'))
        .collect();
    if named.is_empty() {
        anyhow::bail!(
            "name a figure: auto, balance, bytes, cancel, cost, degrade, hedge, leaves, outage, overload, percentiles, predict, queue or quota"
        );
    }
    for name in named {
        match name.as_str() {
            "auto" => auto::run(),
            "balance" => balance::run_all(),
            "bytes" => bytes::run()?,
            "cancel" => cancel::run()?,
            "degrade" => degrade::run()?,
            "leaves" => leaves::run()?,
            "outage" => outage::run()?,
            "overload" => overload::run()?,
            "hedge" => hedge::run()?,
            "percentiles" => percentiles::run()?,
            "predict" => predict::run()?,
            "queue" => queue::run()?,
            "quota" => quota::run()?,
            "cost" => cost::run()?,
            other => anyhow::bail!("there is no figure `{other}`"),
        }
    }
    Ok(())
}
