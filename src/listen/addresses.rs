//! How many connections each address has.
//!
//! Promises: one address has at most so many of a worker's connections, and the table is never
//! longer than those are many; a place is free again when its connection ends, whatever ends it.
//! Each worker has its own: touched when a connection begins and ends, never by a call.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Caller, Network};

/// Connections by address.
pub struct Addresses {
    most: usize,
    uncounted: Vec<Network>,
    open: Arc<Open>,
}

type Open = Mutex<HashMap<IpAddr, usize>>;

/// One of an address's connections; none where they are not counted.
pub struct Place(Option<(IpAddr, Arc<Open>)>);

/// What addresses of one caller have in common: all of IPv4, the first 64 bits of IPv6.
fn caller(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            std::net::Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into()
        }
    }
}

impl Addresses {
    /// A table with these bounds.
    pub fn new(bounds: &Caller) -> Self {
        let networks = bounds.uncounted.iter();
        Self {
            most: bounds.per_address,
            uncounted: networks.filter_map(|text| Network::parse(text)).collect(),
            open: Arc::default(),
        }
    }

    /// A place for one more connection, or none.
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        if self.uncounted.iter().any(|network| network.holds(address)) {
            return Some(Place(None));
        }
        let caller = caller(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(caller).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place(Some((caller, self.open.clone()))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((caller, open)) = self.0.take() else {
            return;
        };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(&caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_a_network_of_ipv6_shares_them_and_they_come_back() {
        let addresses = Addresses::new(&Caller {
            per_address: 2,
            ..Caller::default()
        });
        let enter = |text: &str| addresses.enter(text.parse().unwrap());
        let held: Vec<_> = (0..2).map(|_| enter("10.0.0.1").unwrap()).collect();
        assert!(enter("10.0.0.1").is_none());
        assert!(enter("::ffff:10.0.0.1").is_none());
        let other = enter("10.0.0.2").unwrap();
        let (six, more) = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert!(enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::3").is_some());
        for _ in 0..10 {
            assert!(enter("127.0.0.1").is_some());
        }
        drop((held, other, six, more));
        assert!(addresses.open.lock().unwrap().is_empty());
        assert!(enter("10.0.0.1").is_some());
    }
}
