//! Shunt: a latency-aware AI gateway. `ARCHITECTURE.md` draws the house.

mod alarm;
pub mod auth;
pub mod cold;
pub mod config;
pub mod demo;
mod digits;
pub mod explain;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
pub mod hot;
pub mod jobs;
mod journal;
pub mod keys;
pub mod latency;
pub mod listen;
pub mod meter;
mod nearest;
pub mod observe;
mod placed;
mod prefer;
mod problem;
pub mod server;
pub mod simulate;
pub mod tasks;
pub mod top;
pub mod upstream;
#[cfg(test)]
mod virtual_time;
#[cfg(test)]
mod weight;
