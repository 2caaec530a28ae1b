//! What was turned away because it broke a bound, before it was a call or while it was one.

use metrics::Counter;

use super::Meter;

/// A counter for each bound.
#[derive(Clone)]
pub struct Refused {
    /// Connections past `limits.caller.per_address`.
    pub address: Counter,
    /// Connections whose first call did not begin within `limits.head_timeout`.
    pub first_call: Counter,
    /// Heads past `limits.head` or `limits.headers`.
    pub head: Counter,
    /// What is no HTTP, or can be read in two ways.
    pub malformed: Counter,
    /// Bodies past `limits.caller.upload`.
    pub upload: Counter,
    /// Bodies that came too slowly.
    pub body_slow: Counter,
    /// Compressed bodies where the gateway has to read them.
    pub encoding: Counter,
    /// Connections past `limits.caller.cancels`.
    pub cancels: Counter,
    /// Connections that took nothing of their answers for `limits.caller.idle`.
    pub unread: Counter,
}

impl Refused {
    /// The counters of a process.
    pub fn new(meter: &Meter) -> Self {
        let counter = |limit| meter.counter("shunt_refused_total", &[("limit", limit)]);
        Self {
            address: counter("address"),
            first_call: counter("first_call"),
            head: counter("head"),
            malformed: counter("malformed"),
            upload: counter("upload"),
            body_slow: counter("body_slow"),
            encoding: counter("encoding"),
            cancels: counter("cancels"),
            unread: counter("unread"),
        }
    }
}
