//! Shunt: a latency-aware AI gateway. `ARCHITECTURE.md` draws the house.

pub mod cold;
pub mod config;
pub mod latency;
