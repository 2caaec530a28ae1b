//! What the guard refuses, and what it lets through.

use super::*;
use proptest::prelude::*;

/// Pieces that parsers of URLs read differently.
const PIECES: [&str; 44] = [
    "https://",
    "http://",
    "https:",
    "//",
    "/",
    "\\",
    ":",
    "@",
    "#",
    "?",
    "%",
    "%2f",
    "%40",
    "%2e",
    "%00",
    "%0a",
    ".",
    "..",
    "-",
    "_",
    ";",
    "=",
    "&",
    "[",
    "]",
    "[::1]",
    "::1",
    "[2606:4700::1]",
    "127.0.0.1",
    "93.184.216.34",
    "0x7f",
    "1",
    "0",
    "443",
    "80",
    "65536",
    "localhost",
    "example.com",
    "Example.COM",
    "user",
    "a",
    " ",
    "\t",
    "\u{2460}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]
    /// The WHATWG's parser, which browsers and many clients follow, is the other opinion.
    #[test]
    fn what_is_taken_means_the_same_to_another_parser(
        begin in 0..3usize,
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 1..8),
    ) {
        let begin = ["https://", "https://example.com", ""][begin];
        let text = format!("{begin}{}", pieces.concat());
        if let Ok(address) = guard().check_url(&text) {
            let other = url::Url::parse(&text).unwrap();
            let host = other.host_str().unwrap();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            prop_assert_eq!(host.trim_end_matches('.'), &address.host, "{}", text);
            prop_assert_eq!(other.port_or_known_default(), Some(address.port), "{}", text);
            prop_assert_eq!(other.scheme() == "https", address.secure);
            prop_assert_eq!((other.username(), other.password()), ("", None));
            prop_assert_eq!(other.path(), address.uri.path());
        }
    }
}

fn guard() -> AddressGuard {
    let allow = [
        "https://hooks.example.com/*",
        "http://127.0.0.1:9000/hook",
        "http://10.0.0.1/a/*",
    ];
    AddressGuard::new(&allow.map(str::to_owned)).unwrap()
}

#[test]
fn public_https_addresses_are_taken() {
    for (url, origin) in [
        ("https://example.com/hook?x=1", "https://example.com:443"),
        ("HTTPS://Example.COM./hook", "https://example.com:443"),
        ("https://93.184.216.34:8443/", "https://93.184.216.34:8443"),
        ("https://[2606:4700::1]/", "https://[2606:4700::1]:443"),
        (
            "https://xn--bcher-kva.example/a%20b;c?d=..",
            "https://xn--bcher-kva.example:443",
        ),
        ("https://a.local.example/..x", "https://a.local.example:443"),
    ] {
        let taken = guard().check_url(url).map(|address| address.origin());
        assert_eq!(taken.as_deref(), Ok(origin), "{url}");
    }
}

#[test]
fn only_what_is_named_is_let_inside() {
    for url in ["http://127.0.0.1:9000/hook", "http://10.0.0.1:80/a/b?c"] {
        assert!(guard().check_url(url).is_ok_and(|one| one.allowed), "{url}");
    }
    for url in [
        "http://127.0.0.1:9001/hook",
        "http://127.0.0.1:9000/other",
        "http://127.0.0.1:9000@evil.example/hook",
        "https://127.0.0.1:9000/hook",
        "http://10.0.0.1/a",
        "http://10.0.0.1/a/../b",
        "http://10.0.0.1/a/%2e%2E/b",
        "http://10.0.0.1/a/..%2fb",
        "http://10.0.0.1/a/%252e%252e/b",
        "http://10.0.0.1/a/..;x/b",
    ] {
        assert!(guard().check_url(url).is_err(), "{url}");
    }
    let near = guard()
        .check_url("https://hooks.example.com.evil.example/x")
        .unwrap();
    assert!(!near.allowed);
}

#[test]
fn an_entry_that_stands_for_more_than_it_says_is_refused() {
    for entry in [
        "https://hooks.example.com*",
        "https://user@hooks.example.com/*",
        "ftp://hooks.example.com/",
        "hooks.example.com",
    ] {
        assert!(AddressGuard::new(&[entry.into()]).is_err(), "{entry}");
    }
}

/// Found by the fuzz target `address`: the name itself was taken, those below it were not.
#[test]
fn names_that_mean_something_inside_only_are_refused_and_so_is_what_is_below_them() {
    for name in [
        "home.arpa",
        "Home.Arpa.",
        "a.home.arpa",
        "a.local",
        "a.b.internal",
    ] {
        let told = guard().check_url(&format!("https://{name}/"));
        assert!(matches!(told, Err(Refused::Inside(_))), "{name}");
    }
    assert!(guard().check_url("https://myhome.arpa/").is_ok());
}
