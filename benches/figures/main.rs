//! The figures that the README quotes. `cargo bench --bench figures -- NAME`; names: `auto`,
//! `balance`, `bytes`, `cancel`, `cost`, `degrade`, `demote`, `hedge`, `jobs`, `leaves`, `outage`,
//! `overload`, `percentiles`, `predict`, `queue`, `quota`, `start`, `storm`, `told`. Everything runs on
//! loopback, in this process; only `start` and `storm` start gateways as processes, the latter to
//! kill them, and those on PostgreSQL a cluster. Options go to the figures that are named; all that
//! follows `storm` is its own.

mod auto;
mod balance;
mod behave;
mod bytes;
mod cancel;
mod chaos;
mod cluster;
mod cost;
mod degrade;
mod demote;
mod hedge;
mod jobs;
mod leaves;
mod outage;
mod overload;
mod percentiles;
mod predict;
mod queue;
mod quota;
mod rig;
mod start;
mod stored;
mod storm;
mod told;

/// The allocator of the real binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The variable with the keys that gateways on one PostgreSQL share.
const KEYS: &str = "FIGURES_KEYS";

/// Starts this program again with a key in its environment, which only a new process can be given.
fn begin_again() -> anyhow::Result<()> {
    use base64::Engine as _;
    use std::os::unix::process::CommandExt as _;
    let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 32]>());
    let failed = std::process::Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(KEYS, format!("k1:{key}"))
        .exec();
    Err(failed.into())
}

fn main() -> anyhow::Result<()> {
    if std::env::var_os(KEYS).is_none() {
        return begin_again();
    }
    // Cargo adds `--bench` of its own.
    let arguments = std::env::args().skip(1).filter(|one| one != "--bench");
    let arguments: Vec<String> = arguments.collect();
    match arguments.split_first().map(|(name, rest)| (&**name, rest)) {
        Some(("storm", options)) => return storm::run(options),
        Some(("chaos", options)) => return chaos::run(options),
        _ => {}
    }
    let (options, named): (Vec<String>, Vec<String>) =
        arguments.into_iter().partition(|one| one.starts_with('-'));
    if named.is_empty() {
        anyhow::bail!(
            "name a figure: auto, balance, bytes, cancel, chaos, cost, degrade, demote, hedge, jobs, leaves, outage, overload, percentiles, predict, queue, quota, start, storm or told"
        );
    }
    for name in named {
        match name.as_str() {
            "auto" => auto::run(),
            "balance" => balance::run_all(),
            "bytes" => bytes::run()?,
            "cancel" => cancel::run()?,
            "degrade" => degrade::run()?,
            "demote" => demote::run(&options)?,
            "jobs" => jobs::run(&options)?,
            "leaves" => leaves::run()?,
            "outage" => outage::run()?,
            "overload" => overload::run()?,
            "hedge" => hedge::run()?,
            "percentiles" => percentiles::run()?,
            "predict" => predict::run()?,
            "queue" => queue::run()?,
            "quota" => quota::run()?,
            "cost" => cost::run()?,
            "told" => told::run()?,
            "start" => start::run()?,
            other => anyhow::bail!("there is no figure `{other}`"),
        }
    }
    Ok(())
}
