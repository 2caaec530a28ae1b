//! What one caller may take: connections, time for a body, calls given up.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Period, Size};

/// Bounds on one caller.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Caller {
    /// Open connections of one address per worker, of IPv6 of one /64; past it: 429 and closed.
    pub per_address: usize,
    /// Networks whose connections `per_address` does not count: a proxy in front of the gateway.
    pub uncounted: Vec<String>,
    /// Longest request body, kept or passed through; a longer one is 413.
    pub upload: Size,
    /// Longest wait for the next bytes of a request body; past it: 408.
    pub body_idle: Period,
    /// Bytes a second that a request body must bring, `body_idle` apart; 0: any.
    pub body_rate: u32,
    /// A connection without a call, or that takes nothing of its answers, is closed after this.
    pub idle: Period,
    /// Calls that one HTTP/2 connection may give up in 10 s; past it it is closed.
    pub cancels: u32,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            per_address: 1_024,
            uncounted: vec!["127.0.0.0/8".into(), "::1/128".into()],
            upload: Size(1 << 30),
            body_idle: Period::from_secs(30),
            body_rate: 256,
            idle: Period::from_secs(75),
            cancels: 500,
        }
    }
}

impl Caller {
    /// What cannot be: the key, and what it says.
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let zeros = [
            ("per_address", self.per_address == 0),
            ("upload", self.upload.0 == 0),
            ("body_idle", self.body_idle.get().is_zero()),
            ("idle", self.idle.get().is_zero()),
            ("cancels", self.cancels == 0),
        ];
        let says = "must be above 0; see config/reference.toml for the default";
        let zeros = zeros.into_iter().filter(|(_, zero)| *zero);
        let mut all: Vec<_> = zeros.map(|(name, _)| (name, says.to_owned())).collect();
        for network in &self.uncounted {
            if Network::parse(network).is_none() {
                let says = format!("`{network}` is no network; write 10.0.0.0/8 or 10.0.0.1");
                all.push(("uncounted", says));
            }
        }
        all
    }
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1/128` or a single address. An IPv4 network in IPv6's form is itself: addresses
    /// are looked at in their own form.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().ok()?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits: u32 = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        let canonical = base.to_canonical();
        match bits.checked_sub(96) {
            _ if bits > most => None,
            Some(bits) if canonical.is_ipv4() != base.is_ipv4() => Some(Self {
                base: canonical,
                bits,
            }),
            _ => Some(Self { base, bits }),
        }
    }

    /// Whether an address is in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differ = u32::from(base) ^ u32::from(address);
                differ.leading_zeros() >= self.bits
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differ = u128::from(base) ^ u128::from(address);
                differ.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_that_begin_like_it() {
        let network = Network::parse("10.1.0.0/16").unwrap();
        assert!(network.holds("10.1.255.1".parse().unwrap()));
        assert!(!network.holds("10.2.0.1".parse().unwrap()));
        assert!(!network.holds("::1".parse().unwrap()));
        let all = Network::parse("0.0.0.0/0").unwrap();
        assert!(all.holds("8.8.8.8".parse().unwrap()));
        let one = Network::parse("2001:db8::7").unwrap();
        assert!(one.holds("2001:db8::7".parse().unwrap()));
        assert!(!one.holds("2001:db8::8".parse().unwrap()));
        let mapped = Network::parse("::ffff:10.0.0.0/104").unwrap();
        assert_eq!(Some(mapped), Network::parse("10.0.0.0/8"));
        for wrong in ["10.0.0.0/33", "::/129", "x", "10.0.0.0/", "10.0.0/8", ""] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
