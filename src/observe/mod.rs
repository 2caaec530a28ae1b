//! What operators see: metrics, health, the API behind dashboards.
//!
//! Promises: every figure comes from the same series that the gateway acts on. Reads, never
//! decides; serves no caller's traffic.

mod admin;
mod histograms;
mod quota;
mod report;

pub use admin::{Admin, router};
