//! What belongs to one connection or to the host that answered stays there: none of it, and nothing that
//! `Connection` names, goes on; all else goes on as it was and in its order. What goes into a store comes
//! back the same.
#![no_main]

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use shunt::cold::job::{header_map, lines};
use shunt::fuzz::{lines_from_text, lines_to_text, keep_what_passes};

const STAY: [&str; 7] = [
    "alt-svc",
    "connection",
    "keep-alive",
    "proxy-connection",
    "strict-transport-security",
    "transfer-encoding",
    "upgrade",
];

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(60) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..at]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&line[at + 1..])) {
            headers.append(name, value);
        }
    }
    let kept = lines(&headers);
    assert_eq!(lines_from_text(&lines_to_text(&kept)), kept);
    assert_eq!(header_map(&kept), headers);
    // What no gateway wrote does not panic either.
    let _ = header_map(&lines_from_text(bytes));

    let named: HashSet<String> = headers
        .get_all("connection")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut left = headers.clone();
    keep_what_passes(&mut left);
    let goes = |name: &str| !STAY.contains(&name) && !named.contains(name);
    for name in headers.keys() {
        let before: Vec<_> = headers.get_all(name).iter().collect();
        let after: Vec<_> = left.get_all(name).iter().collect();
        assert_eq!(
            after,
            if goes(name.as_str()) {
                before
            } else {
                Vec::new()
            },
            "{name}"
        );
    }
});
