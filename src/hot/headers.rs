//! Which header lines pass: end-to-end ones do, hop-by-hop ones do not (RFC 9110 7.6.1).

use http::header::{CONNECTION, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::intent::is_for_the_gateway;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes off what belongs to one connection, in either direction.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
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
        headers.remove(CONNECTION);
    }
    for name in [TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
}

/// Makes a caller's headers those of the call to a provider.
pub fn towards_the_provider(headers: &mut HeaderMap) {
    let trailers = headers
        .get(TE)
        .is_some_and(|te| te.as_bytes() == b"trailers");
    strip_hop_by_hop(headers);
    for name in [HOST, EXPECT, TE] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // Most calls say nothing to the gateway: one look, no list.
    let mut names = headers.keys();
    if !names.any(|name| name == "prefer" || name.as_str().starts_with("x-shunt-")) {
        return;
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
            ("host", "gateway"),
            ("prefer", "respond-async, wait=2"),
            ("x-shunt-budget", "1s"),
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
