//! A provider for each gateway, so that who made a call is known; every answer differs, so that two
//! answers of one job cannot pass for one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long a call takes, in milliseconds; its caller says so.
pub const TAKES: &str = "x-takes-ms";
/// Which call of the caller's it is.
pub const TAG: &str = "x-request-tag";
/// In how many events a stream comes, the first after a third of its time; absent: no stream.
pub const EVENTS: &str = "x-events";

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

/// The calls of all providers: those that ended, and how many run.
#[derive(Clone, Default)]
pub struct Calls {
    ended: Arc<Mutex<Vec<Seen>>>,
    running: Arc<AtomicUsize>,
    came: Arc<AtomicU64>,
}

impl Calls {
    /// Those with a tag that ended.
    pub fn all(&self) -> Vec<Seen> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.clone()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// How many came.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    fn begin(&self, tag: Option<u32>, gateway: usize) -> Under {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.came.fetch_add(1, Ordering::Relaxed);
        let came = Instant::now();
        let seen = tag.map(|tag| Seen {
            tag,
            gateway,
            came,
            ended: came,
            answered: false,
        });
        Under {
            calls: self.clone(),
            seen,
        }
    }
}

/// A call under way; it is over when this is dropped.
struct Under {
    calls: Calls,
    seen: Option<Seen>,
}

impl Under {
    fn answered(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.answered = true;
        }
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.calls.running.fetch_sub(1, Ordering::Relaxed);
        let Some(seen) = self.seen.take() else { return };
        let ended = &self.calls.ended;
        ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Seen {
                ended: Instant::now(),
                ..seen
            });
    }
}

/// A number in a header.
fn number(headers: &HeaderMap, name: &str) -> Option<u32> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

type Answer = BoxBody<Bytes, Infallible>;

/// Answers one call.
async fn answer(request: Request<Incoming>, gateway: usize, calls: Calls) -> Response<Answer> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let headers = request.headers();
    let takes = number(headers, TAKES).unwrap_or(0);
    let mut under = calls.begin(number(headers, TAG), gateway);
    let takes = Duration::from_millis(takes.into());
    let due = tokio::time::Instant::now() + takes;
    let events = number(headers, EVENTS);
    let _ = request.into_body().collect().await;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    if let Some(events) = events {
        return respond("text/event-stream", stream(number, events, takes, under));
    }
    if !takes.is_zero() {
        tokio::time::sleep_until(due).await;
    }
    let body = format!(
        r#"{{"id":"chatcmpl-{number}","object":"chat.completion","created":1795514400,"model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":16,"total_tokens":25}}}}"#,
        "word ".repeat(16)
    );
    under.answered();
    respond("application/json", Full::new(Bytes::from(body)).boxed())
}

fn respond(kind: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert("content-type", kind);
    response
}

/// A stream of so many events and the end that OpenAI's have.
fn stream(number: u64, events: u32, takes: Duration, under: Under) -> Answer {
    let (first, gap) = (takes / 3, takes * 2 / 3 / events.max(1));
    let steps = futures_util::stream::unfold((0, under), move |(at, mut under)| async move {
        if at > events {
            return None;
        }
        tokio::time::sleep(if at == 0 { first } else { gap }).await;
        let event = if at == events {
            under.answered();
            "data: [DONE]\n\n".to_owned()
        } else {
            format!(
                "data: {{\"id\":\"chatcmpl-{number}\",\"object\":\"chat.completion.chunk\",\"created\":1795514400,\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word \"}},\"finish_reason\":null}}]}}\n\n"
            )
        };
        Some((Ok(Frame::data(Bytes::from(event))), (at + 1, under)))
    });
    StreamBody::new(steps).boxed()
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
