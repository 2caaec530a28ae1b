//! Whether a request comes from where operators ask: not from a foreign page in an operator's browser.
//!
//! Two ways in are closed. DNS rebinding: a listener on loopback without a token answers only to
//! names of loopback. Forged requests: what changes something, and whatever the page itself reads, is
//! not answered to another site's page. That is the algorithm of Go's `CrossOriginProtection`
//! (`Sec-Fetch-Site`, else `Origin` against `Host`): browsers cannot be made to leave these out of a
//! POST, and `shunt jobs`, curl and scrapers, which send neither, need no header of their own.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use http::uri::Authority;

/// Why a request is not answered. `local`: only names of loopback may be asked.
pub fn refuses(request: &Request, local: bool) -> Option<(StatusCode, &'static str)> {
    let host = authority(request);
    if local && host.as_ref().is_some_and(|host| !is_loopback(host.host())) {
        let says = "this listener is on loopback and has no token: ask it as localhost or 127.0.0.1, \
                    or set auth.admin_token\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, says));
    }
    if is_foreign(request.headers(), host.as_ref()) && is_guarded(request) {
        let says = "a page of another site asked for this; open the gateway's own page, or use \
                    `shunt jobs`\n";
        return Some((StatusCode::FORBIDDEN, says));
    }
    None
}

/// Whom the request names: HTTP/2 and absolute targets in the target, all else in `Host`.
fn authority(request: &Request) -> Option<Authority> {
    let target = request.uri().authority().cloned();
    target.or_else(|| request.headers().get(HOST)?.to_str().ok()?.parse().ok())
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    let name =
        host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    name || host
        .parse()
        .is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// Whether a page of another site sent it.
fn is_foreign(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    origin.is_none_or(|(_, origin)| host.is_none_or(|host| host.as_str() != origin))
}

/// What a page of another site may not ask for: all but to follow a link here.
fn is_guarded(request: &Request) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    let followed = request
        .headers()
        .get("sec-fetch-mode")
        .is_some_and(|mode| mode == "navigate");
    !(safe && followed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn answers(method: Method, headers: &[(&str, &str)], local: bool) -> Option<u16> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        refuses(&request, local).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn a_listener_on_loopback_answers_only_to_names_of_loopback() {
        for (host, refused) in [
            ("localhost", None),
            ("LOCALHOST:8081", None),
            ("shunt.localhost:8081", None),
            ("localhost.:8081", None),
            ("127.0.0.1:8081", None),
            ("127.9.9.9", None),
            ("[::1]:8081", None),
            ("[::ffff:127.0.0.1]:8081", None),
            ("evil.example:8081", Some(421)),
            ("localhost.evil.example", Some(421)),
            ("127.0.0.1.evil.example", Some(421)),
            ("10.0.0.1:8081", Some(421)),
            ("0.0.0.0:8081", Some(421)),
        ] {
            let told = answers(Method::GET, &[("host", host)], true);
            assert_eq!(told, refused, "{host}");
            assert_eq!(
                answers(Method::GET, &[("host", host)], false),
                None,
                "{host}"
            );
        }
        let absolute = Request::get("http://evil.example/metrics").body(Body::empty());
        assert!(refuses(&absolute.unwrap(), true).is_some());
        assert_eq!(answers(Method::GET, &[], true), None);
    }

    #[test]
    fn a_page_of_another_site_changes_nothing_and_listens_to_nothing() {
        let host = ("host", "127.0.0.1:8081");
        let own = ("origin", "http://127.0.0.1:8081");
        let other = ("origin", "http://evil.example");
        let site = |site| ("sec-fetch-site", site);
        let link = ("sec-fetch-mode", "navigate");
        for (method, headers, refused) in [
            (Method::POST, vec![host], None),
            (Method::POST, vec![host, own], None),
            (Method::POST, vec![host, own, site("same-origin")], None),
            (Method::POST, vec![host, other, site("none")], None),
            (Method::POST, vec![host, other], Some(403)),
            (Method::POST, vec![host, ("origin", "null")], Some(403)),
            (
                Method::POST,
                vec![host, ("origin", "http://127.0.0.1:9")],
                Some(403),
            ),
            (
                Method::POST,
                vec![host, other, site("cross-site")],
                Some(403),
            ),
            (Method::POST, vec![host, own, site("same-site")], Some(403)),
            (
                Method::POST,
                vec![host, site("cross-site"), link],
                Some(403),
            ),
            (Method::GET, vec![host, site("cross-site")], Some(403)),
            (Method::GET, vec![host, site("cross-site"), link], None),
            (Method::GET, vec![host], None),
        ] {
            let told = answers(method.clone(), &headers, true);
            assert_eq!(told, refused, "{method} {headers:?}");
        }
    }
}
