//! Pages of the simulated provider that are no model: for tests of bytes, headers and tunnels.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::body::{End, Script, Step};
use super::errors::{Why, error};
use super::server::plain;
use super::stats::Guard;

pub(super) fn models(path: &str, mut guard: Guard) -> Response<Script> {
    guard.complete();
    let model = |id: &str| json!({"id": id, "object": "model", "created": 1_795_514_400, "owned_by": "simulate"});
    match path.strip_prefix("/v1/models/") {
        Some("unknown-model") => {
            let error = error(None, Why::Model, "the model does not exist");
            plain(StatusCode::NOT_FOUND, &error)
        }
        Some(id) => plain(StatusCode::OK, &model(id)),
        None => {
            let data = [model("gpt-4o"), model("claude-sonnet")];
            plain(StatusCode::OK, &json!({"object": "list", "data": data}))
        }
    }
}

/// Sends the request's body back.
pub(super) async fn echo(body: Incoming, headers: &HeaderMap, guard: Guard) -> Response<Script> {
    let Ok(read) = body.collect().await else {
        return plain(StatusCode::BAD_REQUEST, &json!({}));
    };
    let bytes = read.to_bytes();
    let length = Some(bytes.len() as u64);
    let step = Step {
        after: Duration::ZERO,
        bytes,
        token: false,
    };
    let mut response = Response::new(Script::new(vec![step], Some(guard), End::Complete, length));
    if let Some(kind) = headers.get("content-type") {
        response.headers_mut().insert("content-type", kind.clone());
    }
    response
}

/// Tells what arrived.
pub(super) fn headers(parts: &http::request::Parts, mut guard: Guard) -> Response<Script> {
    guard.complete();
    let lines: Vec<[String; 2]> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            [
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ]
        })
        .collect();
    let body = json!({"method": parts.method.as_str(), "path": parts.uri.to_string(),
        "version": format!("{:?}", parts.version), "headers": lines});
    plain(StatusCode::OK, &body)
}

/// Random bytes in chunks: `size`, `chunk`, `gap_ms`, `seed`
pub(super) fn bytes(query: &str, guard: Guard) -> Response<Script> {
    let number = |name: &str, otherwise: u64| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(otherwise)
    };
    let size = usize::try_from(number("size", 1_024).min(64 << 20)).unwrap_or(0);
    let chunk = usize::try_from(number("chunk", 256).max(1)).unwrap_or(1);
    let gap = Duration::from_millis(number("gap_ms", 0));
    let mut random = StdRng::seed_from_u64(number("seed", 1));
    let mut all = vec![0u8; size];
    random.fill(&mut all[..]);
    let all = Bytes::from(all);
    let steps = (0..size).step_by(chunk).map(|from| Step {
        after: gap,
        bytes: all.slice(from..(from + chunk).min(size)),
        token: false,
    });
    let script = Script::new(steps.collect(), Some(guard), End::Complete, None);
    let mut response = Response::new(script);
    let kind = http::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert("content-type", kind);
    response
}

/// Switches to a protocol that sends every byte back.
pub(super) fn upgrade(mut request: Request<Incoming>) -> Response<Script> {
    let switched = hyper::upgrade::on(&mut request);
    let empty = Script::new(Vec::new(), None, End::Complete, None);
    let mut response = Response::new(empty);
    if !request.headers().contains_key("upgrade") {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", http::HeaderValue::from_static("upgrade"));
    if let Some(name) = request.headers().get("upgrade") {
        headers.insert("upgrade", name.clone());
    }
    // Ends with either side's connection, which the simulation's tasks own.
    drop(tokio::task::spawn(async move {
        if let Ok(stream) = switched.await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    }));
    response
}
