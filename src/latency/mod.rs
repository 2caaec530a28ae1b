//! How long things take: recorders on the hot path, windows behind them, policies on top.
//!
//! Promises: recording takes no lock and allocates at most once per block of cells; what is
//! published is immutable. Pure: no I/O, no async, and its clock is passed in.

mod bucket;
mod class;
mod classes;
mod coarse;
mod curve;
mod heat;
mod hedge;
mod kind;
mod layout;
mod limit;
mod odds;
mod packed;
mod reissue;
mod series;
mod snapshot;
mod survival;
mod table;
mod windows;

pub use bucket::RatioBucket;
pub use classes::Classes;
pub use curve::curve;
pub use heat::{COLUMN, Columns, Heat, rows};
pub use hedge::{AtomicReissue, Reissue, hedge_delay};
pub use kind::Kind;
pub use layout::MAX;
pub use limit::Limit;
pub use reissue::{Policy, best as best_policy};
pub use series::{Series, set_shard, shard};
pub use snapshot::{Snapshot, Summary};
pub use survival::Survival;
pub use windows::{Views, Window, Windows};
