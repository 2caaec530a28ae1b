//! Which header lines pass: end-to-end ones do, hop-by-hop ones do not (RFC 9110 7.6.1).

use http::header::{ACCEPT_ENCODING, CONNECTION, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::intent::is_for_the_gateway;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Names to be taken off a head. Found by one look at all names, so that only what is there is
/// hashed; most heads have none or `Connection` alone.
type Found = SmallVec<[HeaderName; 4]>;

/// The name, if it belongs to one connection.
fn hop_by_hop(name: &HeaderName) -> Option<HeaderName> {
    Some(match name.as_str() {
        "connection" => CONNECTION,
        "transfer-encoding" => TRANSFER_ENCODING,
        "upgrade" => UPGRADE,
        "keep-alive" => KEEP_ALIVE,
        "proxy-connection" => PROXY_CONNECTION,
        _ => return None,
    })
}

/// Takes off what belongs to one connection, in either direction.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let found: Found = headers.keys().filter_map(hop_by_hop).collect();
    take_off(headers, &found);
}

/// Takes these names off, and those that `Connection` lists where it is among them.
fn take_off(headers: &mut HeaderMap, found: &Found) {
    if found.contains(&CONNECTION) {
        for name in listed(headers) {
            headers.remove(name);
        }
    }
    for name in found {
        headers.remove(name);
    }
}

/// The names that `Connection` lists, but for its usual words: they are nobody's names, or taken
/// off in any case.
fn listed(headers: &HeaderMap) -> Found {
    let usual = |word: &str| {
        let usual = ["keep-alive", "close", "upgrade"];
        usual.iter().any(|one| word.eq_ignore_ascii_case(one))
    };
    headers
        .get_all(CONNECTION)
        .iter()
        // Mostly it says one of them and nothing else.
        .filter(|line| line != &"keep-alive" && line != &"close")
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|word| !usual(word))
        .filter_map(|name| name.parse().ok())
        .collect()
}

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
