//! A provider for each gateway, so that who made a call is known; every answer differs, so that two
//! answers of one job cannot pass for one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long a call takes, in milliseconds; its caller says so.
pub const TAKES: &str = "x-takes-ms";
/// Which call of the caller's it is.
pub const TAG: &str = "x-request-tag";

/// One call that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Which of the callers' calls it serves.
    pub tag: u32,
    /// The gateway that made it.
    pub gateway: usize,
    pub came: Instant,
    pub ended: Instant,
    /// Whether its answer was given, rather than its connection closed before.
    pub answered: bool,
}

/// The calls that ended, of all providers.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<Seen>>>);

impl Calls {
    pub fn all(&self) -> Vec<Seen> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A call under way; it is over when this is dropped.
struct Under {
    calls: Calls,
    seen: Seen,
}

impl Drop for Under {
    fn drop(&mut self) {
        self.seen.ended = Instant::now();
        let mut calls = self.calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(self.seen);
    }
}

/// A number in a header.
fn number(headers: &HeaderMap, name: &str) -> Option<u32> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Answers one call.
async fn answer(request: Request<Incoming>, gateway: usize, calls: Calls) -> Response<Full<Bytes>> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let came = Instant::now();
    let headers = request.headers();
    let takes = number(headers, TAKES).unwrap_or(0);
    let mut under = number(headers, TAG).map(|tag| Under {
        calls,
        seen: Seen {
            tag,
            gateway,
            came,
            ended: came,
            answered: false,
        },
    });
    let due = tokio::time::Instant::from_std(came) + Duration::from_millis(takes.into());
    let _ = request.into_body().collect().await;
    if takes > 0 {
        tokio::time::sleep_until(due).await;
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let body = format!(
        r#"{{"id":"chatcmpl-{number}","object":"chat.completion","created":1795514400,"model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":16,"total_tokens":25}}}}"#,
        "word ".repeat(16)
    );
    if let Some(under) = &mut under {
        under.seen.answered = true;
    }
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

async fn serve(listener: TcpListener, gateway: usize, calls: Calls) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let calls = calls.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let answering = answer(request, gateway, calls.clone());
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Starts so many on the runtime that it is called on.
///
/// # Errors
/// No port is free.
pub async fn start(
    count: usize,
    calls: &Calls,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for gateway in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        tasks.spawn(serve(listener, gateway, calls.clone()));
    }
    Ok(addresses)
}
