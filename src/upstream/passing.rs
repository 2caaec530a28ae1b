//! Which header lines pass: end-to-end ones do (RFC 9110 7.6.1), but for what a provider says of its own
//! address.
//!
//! Promises: all other lines pass as they are and in their order, whether an answer passes on or waits in
//! a store.

use http::header::{CONNECTION, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");

/// Names to be taken off a head. Found by one look at all names, so that only what is there is
/// hashed; most heads have none or `Connection` alone.
pub type Found = SmallVec<[HeaderName; 4]>;

/// The name, if it belongs to one connection.
pub fn hop_by_hop(name: &HeaderName) -> Option<HeaderName> {
    Some(match name.as_str() {
        "connection" => CONNECTION,
        "transfer-encoding" => TRANSFER_ENCODING,
        "upgrade" => UPGRADE,
        "keep-alive" => KEEP_ALIVE,
        "proxy-connection" => PROXY_CONNECTION,
        _ => return None,
    })
}

/// The name, if it says something of the host that answered, which callers take for the gateway: where
/// else that is to be found (RFC 7838), and that it and all hosts below its name are to be asked over TLS
/// alone (RFC 6797).
fn of_its_host(name: &HeaderName) -> Option<HeaderName> {
    Some(match name.as_str() {
        "alt-svc" => ALT_SVC,
        "strict-transport-security" => STRICT_TRANSPORT_SECURITY,
        _ => return None,
    })
}

/// Takes off an answer what is not for the caller.
pub fn keep_what_passes(headers: &mut HeaderMap) {
    let not_theirs = |name: &HeaderName| hop_by_hop(name).or_else(|| of_its_host(name));
    let found: Found = headers.keys().filter_map(not_theirs).collect();
    take_off(headers, &found);
}

/// Takes these names off, and those that `Connection` lists where it is among them.
pub fn take_off(headers: &mut HeaderMap, found: &Found) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_passes_but_for_its_connection_and_its_host() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("upgrade", "h2c"),
            ("alt-svc", "h3=\":443\"; ma=86400"),
            (
                "strict-transport-security",
                "max-age=31536000; includeSubDomains; preload",
            ),
            ("set-cookie", "a=1"),
            ("x-request-id", "req_1"),
            ("set-cookie", "b=2"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        keep_what_passes(&mut headers);
        let left: Vec<_> = headers.values().collect();
        assert_eq!(left, ["a=1", "b=2", "req_1"]);
    }
}
