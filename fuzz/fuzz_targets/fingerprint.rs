//! The fingerprint of a call: two calls have the same one only if method, route, path and body are
//! the same, byte for byte; a name is its caller's own.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use shunt::cold::job::Owner;
use shunt::cold::recall::CallKey;

#[derive(Arbitrary, Debug)]
struct Calls<'a> {
    text: &'a str,
    one: [u8; 3],
    other: [u8; 3],
    body: &'a [u8],
    second: Option<&'a [u8]>,
    credentials: [&'a [u8]; 2],
    names: [u8; 2],
}

/// Method, route and path of one text, cut at three places.
fn parts<'a>(text: &'a str, at: &[u8; 3]) -> [&'a str; 3] {
    let mut at = at.map(|at| text.floor_char_boundary(usize::from(at) % (text.len() + 1)));
    at.sort_unstable();
    [&text[..at[0]], &text[at[0]..at[1]], &text[at[1]..at[2]]]
}

fuzz_target!(|calls: Calls| {
    let (one, other) = (
        parts(calls.text, &calls.one),
        parts(calls.text, &calls.other),
    );
    let second = calls.second.unwrap_or(calls.body);
    let print = |parts: &[&str; 3], body| CallKey::print(parts[0], parts[1], parts[2], body);
    let (first, last) = (print(&one, calls.body), print(&other, second));
    assert_eq!(first == last, one == other && calls.body == second);
    assert_eq!(first, print(&one, calls.body));

    let owner = |at: usize| {
        let name = ["authorization", "x-api-key", "api-key", "x-goog-api-key"]
            [usize::from(calls.names[at] % 4)];
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(calls.credentials[at]).ok()?;
        headers.insert(name, value);
        Some(Owner::of(&headers))
    };
    let (Some(owner), Some(stranger)) = (owner(0), owner(1)) else {
        return;
    };
    assert_eq!(
        owner == stranger,
        calls.credentials[0] == calls.credentials[1]
    );
    assert_ne!(owner, Owner::ANYONE);
    let (mine, theirs) = (
        CallKey::named(owner, one[2], first),
        CallKey::named(stranger, other[2], last),
    );
    assert_eq!(
        mine.name == theirs.name,
        owner == stranger && one[2] == other[2]
    );
    assert_ne!(mine.name, CallKey::unnamed(owner, first).name);
    let (mine, theirs) = (
        CallKey::unnamed(owner, first),
        CallKey::unnamed(stranger, last),
    );
    assert_eq!(mine.name == theirs.name, owner == stranger && first == last);
});
