//! Which addresses belong to the public internet.
//!
//! The networks refused are those of the IANA special-purpose registries (RFC 6890 and its
//! successors), in IPv4, IPv6 and every form that carries one in the other, and what clouds serve
//! to their own machines only. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Azure's WireServer: metadata and DNS of each virtual machine, at an address that looks public.
const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Whether an address belongs to the public internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 224;
    !(special
        || ip == AZURE
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_broadcast())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // Only 2000::/3 is given out; the rest is loopback, mapped, NAT64, private, link-local,
    // multicast.
    let global = segments[0] & 0xe000 == 0x2000;
    let special = match segments {
        // Teredo, benchmarking, ORCHID and the other protocol assignments; documentation; 6to4.
        [0x2001, second, ..] => second < 0x200 || second == 0xdb8,
        [0x2002, ..] => true,
        [0x3fff, second, ..] => second < 0x1000,
        _ => false,
    };
    // ISATAP (RFC 5214): an IPv4 address behind `0:5efe` or `200:5efe`.
    let tunnel = segments[4] & 0xfdff == 0 && segments[5] == 0x5efe;
    global && !special && !tunnel
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_that_carries_another_is_never_public(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(bits);
            let low = u128::from(bits);
            let carriers = [
                v4.to_ipv6_mapped(),
                v4.to_ipv6_compatible(),
                Ipv6Addr::from_bits(0x0064_ff9b << 96 | low),
                Ipv6Addr::from_bits(0x0064_ff9b_0001 << 80 | low),
                Ipv6Addr::from_bits(0x2002 << 112 | low << 80),
                Ipv6Addr::from_bits(0x2001 << 112 | low),
                Ipv6Addr::from_bits(0x2606_4700 << 96 | 0x5efe << 32 | low),
            ];
            for carrier in carriers {
                prop_assert!(!is_public(IpAddr::V6(carrier)), "{carrier}");
            }
        }
    }
}
