//! Tells a receiver that a job is finished: signed, retried, and only where it may go.
//!
//! Promises: one `webhook-id` per job however often it is sent; an address is judged after its
//! name was resolved and is pinned for the connection; no redirect is followed. Never shows a
//! secret, never connects to an address inside unless `callbacks.allow` names it.

mod deliver;
mod guard;
mod payload;
mod schedule;
mod send;
mod sign;

pub use deliver::{Deliverer, DeliverySettings, Watch};
pub use guard::{AddressGuard, Refused};
pub use send::Sender;
pub use sign::Signer;
