//! How long things take: recorders on the hot path, windows behind them, policies on top.
//!
//! Promises: recording takes no lock and allocates at most once per block of cells; what is
//! published is immutable. Pure: no I/O, no async, and its clock is passed in.

mod bucket;
mod hedge;
mod layout;
mod series;
mod snapshot;
mod windows;

pub use bucket::RatioBucket;
pub use hedge::{AtomicDelay, hedge_delay};
pub use layout::MAX;
pub use series::{Series, set_shard};
pub use snapshot::{Snapshot, Summary};
pub use windows::{Views, Window, Windows};
