//! What operators see: metrics, health, the API behind dashboards.
//!
//! Promises: every figure comes from the same series that the gateway acts on. Reads, and does
//! to jobs what an operator asks; never decides; serves no caller's traffic.

mod admin;
mod histograms;
mod jobs;
pub mod live;
mod native;
mod origin;
mod page;
mod process;
mod protobuf;
mod quota;
mod report;
mod store;

pub use admin::{Admin, router};
