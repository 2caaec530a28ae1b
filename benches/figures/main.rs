//! The figures that the README quotes. `cargo bench --bench figures -- NAME`; names: `auto`, `bytes`,
//! `cancel`, `hedge`, `percentiles`, `cost`. Everything runs on loopback, in this process.

mod auto;
mod bytes;
mod cancel;
mod cost;
mod hedge;
mod percentiles;
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
        anyhow::bail!("name a figure: auto, bytes, cancel, hedge, percentiles or cost");
    }
    for name in named {
        match name.as_str() {
            "auto" => auto::run(),
            "bytes" => bytes::run()?,
            "cancel" => cancel::run()?,
            "hedge" => hedge::run()?,
            "percentiles" => percentiles::run()?,
            "cost" => cost::run()?,
            other => anyhow::bail!("there is no figure `{other}`"),
        }
    }
    Ok(())
}
