//! The address guard. What it takes means the same to the WHATWG's parser, which receivers' clients
//! follow; an address in it is public by the registries of IANA, written out here once more.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use shunt::cold::callback::AddressGuard;
use shunt::fuzz::is_public;
use url::{Host, Url};

static GUARD: LazyLock<AddressGuard> = LazyLock::new(|| AddressGuard::new(&[]).unwrap());
static OPEN: LazyLock<AddressGuard> = LazyLock::new(|| {
    let allow = [
        "https://hooks.example.com/in/*",
        "http://127.0.0.1:9000/hook",
        "http://[::1]/*",
    ];
    AddressGuard::new(&allow.map(str::to_owned)).unwrap()
});

const V4: [(&str, u32); 17] = [
    ("0.0.0.0", 8),
    ("10.0.0.0", 8),
    ("100.64.0.0", 10),
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("172.16.0.0", 12),
    ("192.0.0.0", 24),
    ("192.0.2.0", 24),
    ("192.88.99.0", 24),
    ("192.168.0.0", 16),
    ("198.18.0.0", 15),
    ("198.51.100.0", 24),
    ("203.0.113.0", 24),
    ("224.0.0.0", 4),
    ("240.0.0.0", 4),
    ("255.255.255.255", 32),
    ("168.63.129.16", 32),
];

const V6: [(&str, u32); 17] = [
    ("::", 128),
    ("::1", 128),
    ("::ffff:0:0", 96),
    ("64:ff9b::", 96),
    ("64:ff9b:1::", 48),
    ("100::", 64),
    ("2001::", 23),
    ("2001:db8::", 32),
    ("2002::", 16),
    ("3fff::", 20),
    ("5f00::", 16),
    ("fc00::", 7),
    ("fe80::", 10),
    ("fec0::", 10),
    ("ff00::", 8),
    ("::", 96),
    ("100:0:0:1::", 64),
];

fn within<const COUNT: usize>(bits: u128, width: u32, all: &[(u128, u32); COUNT]) -> bool {
    all.iter()
        .any(|(net, length)| (bits ^ net) >> (width - length) == 0)
}

fn special_v4(ip: Ipv4Addr) -> bool {
    let nets = V4.map(|(net, length)| {
        (
            u128::from(net.parse::<Ipv4Addr>().unwrap().to_bits()),
            length,
        )
    });
    within(u128::from(ip.to_bits()), 32, &nets)
}

fn special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => {
            let nets = V6.map(|(net, length)| (net.parse::<Ipv6Addr>().unwrap().to_bits(), length));
            within(ip.to_bits(), 128, &nets) || ip.to_ipv4_mapped().is_some()
        }
    }
}

/// A path as the WHATWG's parser writes it.
fn encoded(path: &str) -> String {
    let mut made = String::new();
    for one in path.chars() {
        if matches!(one, '"' | '<' | '>' | '`' | '{' | '}' | '^') {
            made += &format!("%{:02X}", one as u32);
        } else {
            made.push(one);
        }
    }
    made
}

fn check(text: &str) {
    let Ok(address) = GUARD.check_url(text) else {
        return;
    };
    assert!(address.secure && !address.allowed && address.port > 0);
    assert!(address.host.len() <= 253 && text.len() <= 2_048);
    let other = match Url::parse(text) {
        Ok(other) => other,
        // Only names that are no IDNA: nobody resolves them.
        Err(why) => {
            assert_eq!(why, url::ParseError::IdnaError, "{text}");
            return;
        }
    };
    assert_eq!(
        (other.username(), other.password(), other.fragment()),
        ("", None, None),
        "{text}"
    );
    assert_eq!(
        (other.scheme(), other.port_or_known_default()),
        ("https", Some(address.port)),
        "{text}"
    );
    assert_eq!(
        other.path().replace("%5E", "^"),
        encoded(address.uri.path()).replace("%5E", "^"),
        "{text}"
    );
    let judged = match other.host().expect("a host") {
        Host::Ipv4(ip) => IpAddr::V4(ip),
        Host::Ipv6(ip) => IpAddr::V6(ip),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            assert_eq!(name, address.host, "{text}");
            assert!(
                address.host.parse::<IpAddr>().is_err() && name.contains('.'),
                "{text}"
            );
            for inside in ["localhost", "local", "internal", "home.arpa"] {
                assert!(
                    !format!(".{name}").ends_with(&format!(".{inside}")),
                    "{text}"
                );
            }
            return;
        }
    };
    assert_eq!(address.host.parse(), Ok(judged), "{text}");
    assert!(!special(judged), "{text}");
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(bits) = bytes.first_chunk::<16>() {
        let ip = IpAddr::V6(Ipv6Addr::from(*bits));
        assert!(!(is_public(ip) && special(ip)), "{ip}");
    }
    if let Some(bits) = bytes.first_chunk::<4>() {
        let ip = Ipv4Addr::from(*bits);
        assert_eq!(is_public(IpAddr::V4(ip)), !special_v4(ip), "{ip}");
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    check(text);
    check(&format!("https://{text}/"));
    check(&format!("https://example.com{text}"));
    check(&format!("https://[{text}]:8443/x"));
    // What callbacks.allow opens is what it names, for another parser too.
    for text in [
        text.to_owned(),
        format!("https://hooks.example.com/in/{text}"),
        format!("http://127.0.0.1:{text}"),
    ] {
        if let Ok(address) = OPEN.check_url(&text)
            && address.allowed
        {
            let other = Url::parse(&text).expect("a URL");
            let origin = other.origin().ascii_serialization();
            let origin = origin.replace("hooks.example.com.", "hooks.example.com");
            let named = match origin.as_str() {
                "https://hooks.example.com" => other.path().starts_with("/in/"),
                "http://127.0.0.1:9000" => other.path() == "/hook",
                "http://[::1]" => true,
                _ => false,
            };
            assert!(named, "{text}: {origin}");
        }
    }
    // As an entry of callbacks.allow: taken or refused with a sentence.
    if let Err(why) = AddressGuard::new(&[text.to_owned()]) {
        assert!(why.starts_with("callbacks.allow: "), "{why}");
    }
});
