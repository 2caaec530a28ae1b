//! Calls to providers: connections, dialects, attempts.
//!
//! Promises: an attempt is one call to one target, and dropping it cancels it at the provider;
//! each attempt is measured once, the cancelled ones as at least their age. Knows nothing of
//! callers, budgets or jobs.

pub mod accounts;
pub mod attempt;
pub mod attempts;
pub mod balance;
pub mod body;
pub mod connect;
pub mod credentials;
pub mod dialect;
mod gauge;
pub mod health;
pub mod incoming;
pub mod inflow;
pub mod load;
pub mod media;
pub mod names;
pub mod now;
pub mod part;
pub mod passing;
pub mod peek;
pub mod peers;
pub mod permits;
pub mod place;
pub mod pool;
pub mod provider;
pub mod queue;
pub mod quota;
pub mod refusal;
pub mod scan;
mod send;
pub mod sse;
pub mod target;
pub mod tls;
pub mod usage;
pub mod verdict;
mod waiting;
