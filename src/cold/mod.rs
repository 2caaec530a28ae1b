//! The cold path: calls that nobody waits for any more, kept until they are answered.
//!
//! Promises: a job that was acknowledged is durable; it reaches a final state; its caller can
//! poll it, cancel it and is called back under one `webhook-id`. Never reaches back into the
//! hot path, and never shows one caller another's job.

pub mod api;
pub mod background;
pub mod callback;
pub(crate) mod cursor;
pub mod door;
pub mod events;
pub mod filter;
mod follow;
pub mod history;
pub mod job;
pub mod priority;
mod quota;
pub mod recall;
pub mod responses;
pub mod runner;
mod runs;
mod scope;
pub mod seal;
pub mod shares;
pub mod store;
mod tape;
pub(crate) mod timing;
mod waiters;
