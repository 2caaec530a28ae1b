//! Tells a receiver that a job is finished: signed, retried, and only where it may go.
//!
//! Promises: one `webhook-id` per job however often it is sent; an address is judged after its
//! name was resolved and is pinned for the connection; no redirect is followed; a receiver that
//! fails holds up no other. Never shows a secret, never connects to an address inside unless
//! `callbacks.allow` names it.

mod attempt;
#[cfg(test)]
mod battery;
mod deliver;
#[cfg(test)]
mod delivery_tests;
mod endpoints;
mod guard;
pub mod keys;
mod load;
mod network;
mod payload;
pub(crate) mod public;
mod schedule;
mod send;
mod sign;

pub use deliver::{Deliverer, DeliverySettings, Watch};
pub use endpoints::EndpointSettings;
pub use guard::{AddressGuard, Refused};
pub use network::System;
pub use send::Sender;
pub use sign::Signer;
