//! The gateway's own keys: who may call, which routes, how often, how many calls at once.
//!
//! Promises: a key is kept as its SHA-256 only; looking one up takes no lock and compares in constant
//! time; no key is in an error, a log line or a metric. A key has 160 random bits, so that nobody
//! can guess what a hash stands for: a slow hash, which protects guessable passwords, would only
//! slow down calls (NIST SP 800-63B 5.1.2.2 asks for none from 112 bits on).
//! Counts in this process only: several gateways allow a rate each.

pub mod file;
mod rate;
mod table;
mod text;
mod token;

pub use table::{Admission, Key, Keys, Unknown};
pub use text::{PREFIX, is_whole, new};
pub use token::Token;
