//! Which header lines pass: end-to-end ones do, hop-by-hop ones do not (RFC 9110 7.6.1).

use http::header::{CONNECTION, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::intent::is_for_the_gateway;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether a header belongs to one connection.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    )
}

/// Takes off what belongs to one connection, in either direction.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have nothing to take off: one look at the names, no hashing.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ] {
        headers.remove(name);
    }
}

/// Makes a caller's headers those of the call to a provider, but for `Host`, which the provider's
/// own replaces.
pub fn towards_the_provider(headers: &mut HeaderMap) {
    let ours = |name: &HeaderName| {
        let name = name.as_str();
        matches!(name, "te" | "expect" | "prefer") || name.starts_with("x-shunt-")
    };
    let special = headers.keys().any(ours);
    let trailers = special
        && headers
            .get(TE)
            .is_some_and(|te| te.as_bytes() == b"trailers");
    strip_hop_by_hop(headers);
    if !special {
        return;
    }
    for name in [EXPECT, TE] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let ours: Vec<HeaderName> = headers
        .iter()
        .filter(|(name, value)| is_for_the_gateway(name, value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_connection_or_to_the_gateway_stays_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("upgrade", "websocket"),
            ("prefer", "respond-async, wait=2"),
            ("x-shunt-budget", "1s"),
            ("x-shunt-priority", "9"),
            ("x-shunt-callback", "https://a.example"),
            ("authorization", "Bearer x"),
            ("x-stainless-lang", "python"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        towards_the_provider(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["authorization", "x-stainless-lang"]);
    }

    #[test]
    fn a_preference_that_the_gateway_does_not_know_passes() {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", "wait=60".parse().unwrap());
        towards_the_provider(&mut headers);
        assert!(headers.contains_key("prefer"));
    }
}
