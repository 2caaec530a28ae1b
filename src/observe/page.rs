//! The page at `/`: files of `page/`, built into the binary.
//!
//! Promises: nothing is loaded from elsewhere, and the policy that goes with every file keeps it so;
//! no script stands in the markup. The files are the same for everybody and hold nothing of this
//! gateway, so who has no token gets them too, `/` with a 401: a browser cannot send a token when it
//! opens an address. What the page then reads and does needs the token, which it asks for, sends as a
//! header and keeps for as long as its tab lives; a cookie would go with other sites' requests too.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; \
                      form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file, under its name.
struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal $kind:ident),+ $(,)?) => {
        &[$(File { name: $name, kind: $kind, text: include_str!(concat!("../../page/", $name)) }),+]
    };
}

const FILES: &[File] = files![
    "index.html" HTML,
    "style.css" CSS,
    "icon.svg" IMAGE,
    "main.js" SCRIPT,
    "api.js" SCRIPT,
    "charts.js" SCRIPT,
    "dom.js" SCRIPT,
    "format.js" SCRIPT,
    "heatmap.js" SCRIPT,
    "job.js" SCRIPT,
    "jobs.js" SCRIPT,
    "route.js" SCRIPT,
    "routes.js" SCRIPT,
    "stream.js" SCRIPT,
    "table.js" SCRIPT,
    "theme.js" SCRIPT,
    "whatif.js" SCRIPT,
    "vendor/uPlot.esm.js" SCRIPT,
    "vendor/uPlot.min.css" CSS,
];

/// Tags of the files, in their order.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let tag = |file: &File| {
        let digest = Sha256::digest(file.text);
        let (first, _) = digest.split_first_chunk().expect("it has 256 bits");
        let tag = format!("\"{:032x}\"", u128::from_be_bytes(*first));
        HeaderValue::from_str(&tag).expect("it is hexadecimal")
    };
    FILES.iter().map(tag).collect()
});

/// Whether this is one of its files, which are open to all.
pub fn is_part(path: &str) -> bool {
    path.starts_with("/page/")
}

/// `/`.
pub async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

/// `/` for who has sent no token: the page, which asks for it.
pub fn asks() -> Response {
    let mut answer = file("index.html", &HeaderMap::new());
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    answer
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// `/page/{name}`.
pub async fn part(Path(name): Path<String>, headers: HeaderMap) -> Response {
    file(&name, &headers)
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some(at) = FILES.iter().position(|file| file.name == name) else {
        return (StatusCode::NOT_FOUND, "the page has no such file\n").into_response();
    };
    let (file, tag) = (&FILES[at], TAGS[at].clone());
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|tags| {
        let has = |tags: &str| tags.split(',').any(|one| one.trim() == tag);
        tags.to_str().is_ok_and(has)
    });
    let fixed = HeaderValue::from_static;
    let head = [
        (CONTENT_TYPE, fixed(file.kind)),
        (CONTENT_SECURITY_POLICY, fixed(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (REFERRER_POLICY, fixed("no-referrer")),
        // Asked anew each time, so that page and gateway are of one version.
        (CACHE_CONTROL, fixed("no-cache")),
        (ETAG, tag),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    (head, file.text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_known_by_its_tag_and_bound_to_its_own_origin() {
        for file in FILES {
            let answer = super::file(file.name, &HeaderMap::new());
            assert_eq!(answer.status(), StatusCode::OK, "{}", file.name);
            let tag = answer.headers()[ETAG].clone();
            let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'"));
            let again = HeaderMap::from_iter([(IF_NONE_MATCH, tag)]);
            assert_eq!(
                super::file(file.name, &again).status(),
                StatusCode::NOT_MODIFIED
            );
        }
        let none = super::file("../Cargo.toml", &HeaderMap::new());
        assert_eq!(none.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_markup_names_only_files_that_are_here_and_holds_no_script_or_style() {
        let markup = FILES[0].text;
        let named = markup
            .split(['"', '\''])
            .filter_map(|text| text.strip_prefix("page/"));
        let mut count = 0;
        for name in named {
            assert!(FILES.iter().any(|file| file.name == name), "{name}");
            count += 1;
        }
        assert!(count >= 4);
        for forbidden in ["<style", " style=", "://", " onclick", "javascript:"] {
            assert!(!markup.contains(forbidden), "{forbidden}");
        }
        assert_eq!(
            markup.matches("<script").count(),
            markup.matches("<script type=\"module\" src=").count()
        );
    }
}
