//! The first look at a call's head: what two readers could take for two different requests goes no
//! further.
//!
//! Promises: past it there is one `Host` or none, it is a host, an authority in the request line or
//! in `:authority` is the same, and the body has one framing that every reader knows (RFC 9112 3.2,
//! 6.1, 11.2); its path has no `.` and `..`, which routes do not resolve and a server behind would. What
//! the parser refuses before is not looked at again. Reads the head once, keeps nothing.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Method, Request, Version};

use super::error::Code;
use super::gateway::State;
use super::tunnel::is_upgrade;

/// Why a call goes no further.
type Why = (Code, String);

/// Looks at a call's head, and counts it where it goes no further; tells whether the call asks for
/// another protocol.
pub(super) fn check<B>(request: &Request<B>, state: &State) -> Result<bool, Why> {
    let checked = look(request, state.limits.headers);
    match &checked {
        Ok(_) => {}
        Err((Code::HeadTooLarge, _)) => state.refused.head.increment(1),
        Err(_) => state.refused.malformed.increment(1),
    }
    checked
}

/// Which names stand in a head: found in one look, so that only those are searched for.
#[derive(Clone, Copy, Default)]
struct Names {
    disguised: bool,
    coding: bool,
    upgrade: bool,
}

impl Names {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            seen.disguised |= is_disguised(name);
            seen.coding |= *name == TRANSFER_ENCODING;
            seen.upgrade |= *name == UPGRADE;
        }
        seen
    }
}

fn look<B>(request: &Request<B>, most: usize) -> Result<bool, Why> {
    let headers = request.headers();
    if headers.len() > most {
        let why = format!("the call has more header lines than limits.headers ({most})");
        return Err((Code::HeadTooLarge, why));
    }
    let bad = |why: &str| Err((Code::BadRequest, why.to_owned()));
    let names = Names::of(headers);
    if names.disguised {
        return bad("a header's name reads like Content-Length or Transfer-Encoding, and is not");
    }
    if request.method() == Method::CONNECT {
        return bad("the gateway opens no tunnels with CONNECT");
    }
    if let Err(why) = host(request) {
        return bad(why);
    }
    if has_dots(request.uri().path().as_bytes()) {
        return bad("the path has a segment `.` or `..`; send it resolved");
    }
    let is_upgrade = names.upgrade && is_upgrade(headers);
    if request.version() < Version::HTTP_2
        && let Err(why) = framing(headers, names, is_upgrade)
    {
        return bad(why);
    }
    Ok(is_upgrade)
}

/// Whether some readers take a name for one that frames a body: underscores for hyphens, as CGI and
/// WSGI do.
fn is_disguised(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name.len(), 14 | 17)
        && name.contains('_')
        && matches!(
            name.replace('_', "-").as_str(),
            "content-length" | "transfer-encoding"
        )
}

/// Whether a value is a host with an optional port. No scheme, no user, no list.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|one| *one == b':') {
        Some(at) if !value[at..].contains(&b']') => (&value[..at], &value[at + 1..]),
        _ => (value, &b""[..]),
    };
    let plain = |one: &u8| {
        one.is_ascii_alphanumeric()
            || matches!(one, b'-' | b'.' | b'_' | b'~' | b'%' | b'[' | b']' | b':')
    };
    let bare = host.starts_with(b"[") || !host.contains(&b':');
    !host.is_empty() && bare && host.iter().all(plain) && port.iter().all(u8::is_ascii_digit)
}

fn host<B>(request: &Request<B>) -> Result<(), &'static str> {
    let mut lines = request.headers().get_all(HOST).iter();
    let (host, more) = (lines.next(), lines.next());
    if more.is_some() {
        return Err("the call has several Host lines; send one");
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return Err("Host is no host; send one host with an optional port");
    }
    let Some(authority) = request.uri().authority() else {
        if host.is_none() && request.version() == Version::HTTP_11 {
            return Err("the call has no Host");
        }
        return Ok(());
    };
    let authority = authority.as_str().as_bytes();
    if !is_host(authority) {
        return Err("the address of the call has no host that may stand there");
    }
    let scheme = request.uri().scheme_str();
    if scheme.is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err("the address of the call has a scheme that the gateway does not speak");
    }
    if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority)) {
        return Err("Host and the address of the call differ");
    }
    Ok(())
}

/// Whether a segment of a path is `.` or `..` to some reader: encoded once, or between what some take for
/// separators.
fn has_dots(path: &[u8]) -> bool {
    if memchr::memchr2(b'.', b'%', path).is_none() {
        return false;
    }
    let ends = |one: u8| matches!(one, b'/' | b'\\' | b';');
    // Dots of the segment so far; none where it has something else.
    let (mut dots, mut rest) = (Some(0_usize), path);
    while let Some((one, after)) = decoded(rest) {
        dots = match one {
            _ if ends(one) && matches!(dots, Some(1 | 2)) => return true,
            _ if ends(one) => Some(0),
            b'.' => dots.map(|dots| dots + 1),
            _ => None,
        };
        rest = after;
    }
    matches!(dots, Some(1 | 2))
}

/// The first character of a path, and what follows it.
fn decoded(path: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |one: u8| {
        char::from(one)
            .to_digit(16)
            .and_then(|one| u8::try_from(one).ok())
    };
    if let [b'%', high, low, after @ ..] = path
        && let (Some(high), Some(low)) = (digit(*high), digit(*low))
    {
        return Some((high << 4 | low, after));
    }
    path.split_first().map(|(one, after)| (*one, after))
}

fn framing(headers: &HeaderMap, names: Names, is_upgrade: bool) -> Result<(), &'static str> {
    if names.coding {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let (coding, more) = (codings.next(), codings.next());
        let known = |line: &http::HeaderValue| line.as_bytes().eq_ignore_ascii_case(b"chunked");
        if more.is_some() || coding.is_some_and(|line| !known(line)) {
            return Err("Transfer-Encoding is not `chunked` alone");
        }
    }
    if !is_upgrade {
        return Ok(());
    }
    let length = headers.get(CONTENT_LENGTH);
    if names.coding || length.is_some_and(|length| length.as_bytes() != b"0") {
        return Err("a call that asks for another protocol carries no body");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 128;

    fn request(uri: &str, headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    fn told(uri: &str, headers: &[(&'static str, &str)]) -> Option<Code> {
        let checked = look(&request(uri, headers), MOST);
        checked.err().map(|(code, _)| code)
    }

    #[test]
    fn a_plain_call_passes_and_one_that_two_readers_read_differently_does_not() {
        assert_eq!(told("/a", &[("host", "x")]), None);
        for host in ["x:8080", "[::1]:80", "[::1]", "a.b-c.example", "127.0.0.1"] {
            assert_eq!(told("/a", &[("host", host)]), None, "{host}");
        }
        let bad = Some(Code::BadRequest);
        for host in ["", "a@x", "x/y", "x, y", "x y", "x:8a", "::1", "http://x"] {
            assert_eq!(told("/a", &[("host", host)]), bad, "{host}");
        }
        assert_eq!(told("/a", &[]), bad);
        assert_eq!(told("/a", &[("host", "x"), ("host", "x")]), bad);
        assert_eq!(told("http://x/a", &[("host", "X")]), None);
        assert_eq!(told("http://y/a", &[("host", "x")]), bad);
        assert_eq!(told("http://a@x/a", &[]), bad);
        assert_eq!(told("ftp://x/a", &[("host", "x")]), bad);
    }

    #[test]
    fn a_path_that_a_server_would_resolve_does_not_pass() {
        let told = |path: &str| told(path, &[("host", "x")]);
        for path in [
            "/v1/models/../chat/completions",
            "/v1/models/%2e%2E/chat/completions",
            "/v1/models/.%2e/x",
            "/v1/models%2f..%2Fchat",
            "/v1/models%5c..%5Cchat",
            "/v1/models\\..\\chat",
            "/v1/models/..;a=b/chat",
            "/v1/./chat",
            "/..",
            "/v1/%2e",
            "/v1/..?a=b",
        ] {
            assert_eq!(told(path), Some(Code::BadRequest), "{path}");
        }
        for path in [
            "/v1/models/gpt-4.1",
            "/v1/models/..gpt",
            "/v1/models/gpt..",
            "/v1/models/...",
            "/v1/%2",
            "/v1/files/a%20b.txt",
            "/.well-known/x",
            "/v1/files?path=/../x",
        ] {
            assert_eq!(told(path), None, "{path}");
        }
    }

    #[test]
    fn a_body_has_one_framing() {
        let with = |name, value| told("/a", &[("host", "x"), (name, value)]);
        assert_eq!(with("transfer-encoding", "Chunked"), None);
        for coding in ["gzip, chunked", "identity", "chunked, chunked", ""] {
            assert_eq!(
                with("transfer-encoding", coding),
                Some(Code::BadRequest),
                "{coding}"
            );
        }
        assert_eq!(with("content_length", "5"), Some(Code::BadRequest));
        assert_eq!(with("transfer_encoding", "chunked"), Some(Code::BadRequest));
        let upgrade = [
            ("host", "x"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("content-length", "5"),
        ];
        assert_eq!(told("/a", &upgrade), Some(Code::BadRequest));
        assert_eq!(told("/a", &upgrade[..3]), None);
    }

    #[test]
    fn header_lines_are_counted_whatever_the_protocol() {
        let mut many = request("/a", &[("host", "x")]);
        *many.version_mut() = Version::HTTP_2;
        for _ in 0..MOST {
            many.headers_mut().append("x-many", "1".parse().unwrap());
        }
        let code = look(&many, MOST).unwrap_err().0;
        assert_eq!(code, Code::HeadTooLarge);
    }
}
