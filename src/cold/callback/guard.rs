//! Which addresses a callback may reach.
//!
//! Public https addresses only, and what `callbacks.allow` names. The networks refused are those
//! of the IANA special-purpose registries (RFC 6890 and its successors), in IPv4, IPv6 and every
//! form that maps one into the other. Never resolves a name itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no address.
    #[error("`{0}` is not a URL; send an https URL with a host")]
    NotAUrl(String),
    /// It carries credentials.
    #[error("a URL with a user name or password is not taken; let the signature prove the sender")]
    UserInfo,
    /// It is not https.
    #[error("only https is taken; name the address in callbacks.allow to use http")]
    NotSecure,
    /// It reaches inside.
    #[error(
        "{0} is not a public address; name the address in callbacks.allow if it is meant to be reached"
    )]
    Inside(String),
}

/// A callback's address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The whole URL.
    pub uri: Uri,
    /// Host name or literal, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// https.
    pub secure: bool,
    /// `callbacks.allow` names it: inside addresses are fine.
    pub allowed: bool,
}

struct Allowed {
    scheme: String,
    authority: String,
    path: String,
    prefix: bool,
}

/// Judges callback addresses.
pub struct AddressGuard {
    allow: Vec<Allowed>,
}

impl AddressGuard {
    /// A guard with the entries of `callbacks.allow`: URLs, exact or with a trailing `*` in the
    /// path.
    ///
    /// # Errors
    /// A sentence naming the entry that is no URL.
    pub fn new(allow: &[String]) -> Result<Self, String> {
        let entry = |text: &String| {
            let wrong = || {
                format!("callbacks.allow: `{text}` is not a URL; write https://hooks.example.com/*")
            };
            let bare = text.strip_suffix('*');
            let uri: Uri = bare.unwrap_or(text).parse().map_err(|_| wrong())?;
            let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                return Err(wrong());
            };
            if !matches!(scheme, "http" | "https") {
                return Err(wrong());
            }
            // `https://host*` would also stand for another host.
            if bare.is_some_and(|bare| bare.matches('/').count() < 3) {
                return Err(wrong());
            }
            Ok(Allowed {
                scheme: scheme.to_owned(),
                authority: authority.as_str().to_ascii_lowercase(),
                path: uri.path().to_owned(),
                prefix: bare.is_some(),
            })
        };
        Ok(Self {
            allow: allow.iter().map(entry).collect::<Result<_, _>>()?,
        })
    }

    /// Judges an address as far as it can be before its name is resolved.
    pub fn check_url(&self, url: &str) -> Result<Address, Refused> {
        let wrong = || Refused::NotAUrl(url.chars().take(200).collect());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        if authority.as_str().contains('@') {
            return Err(Refused::UserInfo);
        }
        let host = authority.host();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains('%') {
            return Err(wrong());
        }
        let address = Address {
            host: host.to_ascii_lowercase(),
            port: authority
                .port_u16()
                .unwrap_or(if secure { 443 } else { 80 }),
            secure,
            allowed: self.allows(&uri),
            uri,
        };
        if !address.allowed && !secure {
            return Err(Refused::NotSecure);
        }
        let literal = address.host.parse::<IpAddr>().ok();
        // 127.1, 0x7f000001 and 2130706433 are loopback to many resolvers: numbers are no names.
        let numeric = literal.is_none()
            && address
                .host
                .rsplit('.')
                .find(|label| !label.is_empty())
                .is_some_and(is_number);
        if numeric || literal.is_some_and(|ip| !self.judge(&address, ip)) {
            return Err(Refused::Inside(address.host));
        }
        Ok(address)
    }

    /// Whether a connection to this address of the receiver's name may be made.
    pub fn judge(&self, address: &Address, ip: IpAddr) -> bool {
        address.allowed || is_public(ip)
    }

    fn allows(&self, uri: &Uri) -> bool {
        let authority = uri.authority().map(|one| one.as_str().to_ascii_lowercase());
        self.allow.iter().any(|entry| {
            let path = if entry.prefix {
                uri.path().starts_with(&entry.path)
            } else {
                uri.path() == entry.path
            };
            uri.scheme_str() == Some(&entry.scheme)
                && authority.as_deref() == Some(&entry.authority)
                && path
        })
    }
}

fn is_number(label: &str) -> bool {
    let hex = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|one| one.is_ascii_hexdigit()),
        None => label.bytes().all(|one| one.is_ascii_digit()),
    }
}

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
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_broadcast())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // Only 2000::/3 is given out; the rest is loopback, mapped, private, link-local, multicast.
    let global = segments[0] & 0xe000 == 0x2000;
    let special = match segments {
        // Teredo, benchmarking, ORCHID and the other protocol assignments; documentation; 6to4.
        [0x2001, second, ..] => second < 0x200 || second == 0xdb8,
        [0x2002, ..] => true,
        [0x3fff, second, ..] => second < 0x1000,
        _ => false,
    };
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guard() -> AddressGuard {
        let allow = ["https://hooks.example.com/*", "http://127.0.0.1:9000/hook"];
        AddressGuard::new(&allow.map(str::to_owned)).unwrap()
    }

    #[test]
    fn inside_addresses_are_refused_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.2.1",
            "240.0.0.1",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fc00::1]",
            "[ff02::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:db8::1]",
            "[::127.0.0.1]",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.1.",
        ] {
            let judged = guard().check_url(&format!("https://{host}/x"));
            assert!(judged.is_err(), "{host}: {judged:?}");
        }
    }

    #[test]
    fn public_https_addresses_are_taken() {
        for url in [
            "https://example.com/hook?x=1",
            "https://93.184.216.34:8443/",
            "https://[2606:4700::1]/",
        ] {
            assert!(guard().check_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn http_credentials_and_what_is_no_url_are_refused() {
        for url in [
            "http://example.com/",
            "https://user:password@example.com/",
            "ftp://example.com/",
            "/relative",
            "",
            "https://",
            "javascript:alert(1)",
        ] {
            assert!(guard().check_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_what_is_named_is_let_inside() {
        assert!(guard().check_url("http://127.0.0.1:9000/hook").is_ok());
        for url in [
            "http://127.0.0.1:9001/hook",
            "http://127.0.0.1:9000/other",
            "http://127.0.0.1:9000@evil.example/hook",
        ] {
            assert!(guard().check_url(url).is_err(), "{url}");
        }
        let near = guard()
            .check_url("https://hooks.example.com.evil.example/x")
            .unwrap();
        assert!(!near.allowed);
        assert!(AddressGuard::new(&["https://hooks.example.com*".into()]).is_err());
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_never_public(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(bits);
            prop_assert!(!is_public(IpAddr::V6(v4.to_ipv6_mapped())));
            prop_assert!(!is_public(IpAddr::V6(v4.to_ipv6_compatible())));
        }
    }
}
