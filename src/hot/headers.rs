//! What of a caller's head a provider gets: end-to-end lines that are not for the gateway.

use http::header::{ACCEPT_ENCODING, EXPECT, TE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::intent::is_for_the_gateway;
use crate::upstream::passing::{Found, hop_by_hop, take_off};

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Makes a caller's headers those of the call to a provider, but for `Host`, which the provider's
/// own replaces. `read`: the gateway reads what is answered, so that is asked for as it is: of a
/// compressed answer it would know neither tokens nor content.
pub fn towards_the_provider(headers: &mut HeaderMap, read: bool) {
    let (mut found, mut special, mut coded) = (Found::new(), false, false);
    for name in headers.keys() {
        match name.as_str() {
            "accept-encoding" => coded = read,
            "te" | "expect" | "prefer" => special = true,
            text if text.starts_with("x-shunt-") => special = true,
            _ => found.extend(hop_by_hop(name)),
        }
    }
    let trailers = special && headers.get(TE).is_some_and(|te| te == TRAILERS);
    take_off(headers, &found);
    if special {
        take_off_ours(headers, trailers);
    }
    if coded {
        headers.insert(ACCEPT_ENCODING, IDENTITY);
    }
}

/// Takes off what is for the gateway; `TE` passes where it asks for trailers alone.
fn take_off_ours(headers: &mut HeaderMap, trailers: bool) {
    for name in [EXPECT, TE] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, TRAILERS);
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
        towards_the_provider(&mut headers, true);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["authorization", "x-stainless-lang"]);
    }

    #[test]
    fn a_preference_that_the_gateway_does_not_know_passes() {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", "wait=60".parse().unwrap());
        towards_the_provider(&mut headers, true);
        assert!(headers.contains_key("prefer"));
    }

    #[test]
    fn answers_that_the_gateway_reads_are_asked_for_as_they_are() {
        for (read, asked) in [(true, &["identity"][..]), (false, &["gzip", "br"])] {
            let mut headers = HeaderMap::new();
            headers.append("accept-encoding", "gzip".parse().unwrap());
            headers.append("accept-encoding", "br".parse().unwrap());
            towards_the_provider(&mut headers, read);
            let lines: Vec<_> = headers.get_all("accept-encoding").iter().collect();
            assert_eq!(lines, asked);
        }
        // What a caller does not speak of is not spoken of.
        let mut headers = HeaderMap::new();
        towards_the_provider(&mut headers, true);
        assert!(headers.is_empty());
    }
}
