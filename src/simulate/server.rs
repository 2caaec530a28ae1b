//! Serves the simulated APIs.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::Settings;
use super::answers::{self, Api};
use super::body::{End, Script, Step};
use super::coding::{gzip, takes_gzip};
use super::errors::{Why, error};
use super::pages::{bytes, echo, headers, models, upgrade};
use super::plan::Plan;
use super::quota::Quota;
use super::stats::{Guard, Snapshot, Stats};
use crate::tasks::Tasks;

/// A running simulation; dropping it cuts every connection.
pub struct Simulation {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    settings: Settings,
    stats: Stats,
    calls: AtomicU64,
    quota: Quota,
}

impl Simulation {
    /// Starts it on this runtime.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            quota: Quota::new(settings.quota),
            settings,
            stats: Stats::default(),
            calls: AtomicU64::new(0),
        });
        let tasks = Tasks::new();
        let (serving, owner) = (shared.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    owner.spawn(serve(serving.clone(), stream, owner.clone()));
                }
            }
        });
        Ok(Self {
            address,
            shared,
            tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw.
    pub fn stats(&self) -> Snapshot {
        self.shared.stats.snapshot()
    }

    /// Cuts every connection and waits for all tasks.
    pub async fn shutdown(self) {
        self.tasks.cut();
        self.tasks.ended().await;
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.tasks.cut();
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, tasks: Tasks) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move {
            let name = request_id(request.uri().path());
            let mut response = shared.answer(request).await;
            if let Some(name) = name {
                let value = http::HeaderValue::from_static("req_simulated");
                response.headers_mut().insert(name, value);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let builder = Builder::new(tasks);
    let _ = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

/// The line in which an API names each answer.
fn request_id(path: &str) -> Option<&'static str> {
    match Api::of(path) {
        Some(Api::Message) => Some("request-id"),
        _ => path.starts_with("/v1/").then_some("x-request-id"),
    }
}

pub(super) fn plain(status: StatusCode, body: &Value) -> Response<Script> {
    let text = Bytes::from(body.to_string());
    let length = Some(text.len() as u64);
    let step = Step {
        after: Duration::ZERO,
        bytes: text,
        token: false,
    };
    let mut response = Response::new(Script::new(vec![step], None, End::Complete, length));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

/// An error in an API's shape, sent at once.
fn refuse(
    api: Option<Api>,
    mut guard: Guard,
    status: u16,
    why: Why,
    message: &str,
) -> Response<Script> {
    guard.complete();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    plain(status, &error(api, why, message))
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Script> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        match (&parts.method, path) {
            (&Method::GET, "/stats") => {
                return plain(StatusCode::OK, &json!(self.stats.snapshot()));
            }
            (&Method::GET, "/calls") => return plain(StatusCode::OK, &json!(self.stats.ended())),
            (&Method::POST, "/reset") => {
                self.stats.reset();
                return plain(StatusCode::OK, &json!({}));
            }
            (_, "/upgrade") => return upgrade(Request::from_parts(parts, body)),
            _ => {}
        }
        let tag = parts
            .headers
            .get("x-request-tag")
            .and_then(|tag| tag.to_str().ok());
        let guard = self.stats.begin(tag.unwrap_or_default());
        match path {
            "/echo" => return echo(body, &parts.headers, guard).await,
            "/headers" => return headers(&parts, guard),
            "/bytes" => return bytes(parts.uri.query().unwrap_or_default(), guard),
            _ => {}
        }
        if parts.method == Method::GET && path.starts_with("/v1/models") {
            return models(path, guard);
        }
        let read = body.collect().await;
        let Ok(read) = read else {
            return plain(StatusCode::BAD_REQUEST, &json!({}));
        };
        let body = read.to_bytes();
        let Some(grant) = self.quota.take() else {
            return self.call(path, &parts.headers, &body, guard).await;
        };
        let api = Api::of(path);
        let mut response = if grant.is_refused() {
            refuse(api, guard, 429, Why::Rate, "the quota is used up")
        } else {
            self.call(path, &parts.headers, &body, guard).await
        };
        grant.tell(api, response.headers_mut());
        response
    }

    async fn call(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
        mut guard: Guard,
    ) -> Response<Script> {
        let api = Api::of(path);
        let refuse = |guard, status, why, message| refuse(api, guard, status, why, message);
        let Some(known) = api else {
            return refuse(guard, 404, Why::Path, "there is no such path");
        };
        let Ok(request) = serde_json::from_slice::<Value>(body) else {
            return refuse(guard, 400, Why::Request, "the body is not JSON");
        };
        let key = headers
            .get("authorization")
            .or_else(|| headers.get("x-api-key"));
        if key.is_some_and(|key| key.as_bytes().ends_with(b"wrong-key")) {
            return refuse(guard, 401, Why::Key, "incorrect API key provided");
        }
        if request[known.required()].is_null() {
            let message = format!("`{}` is missing", known.required());
            return refuse(guard, 400, Why::Request, &message);
        }
        if request["model"] == "unknown-model" {
            return refuse(guard, 404, Why::Model, "the model does not exist");
        }
        if answers::follows_nothing(&request) {
            let message = "there is no such previous response";
            return refuse(guard, 400, Why::Previous, message);
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let plan = Plan::of(&request, headers, call, &self.settings);
        if let Some(status) = plan.status {
            tokio::time::sleep(plan.latency).await;
            let mut response = refuse(guard, status, Why::of(status), "simulated");
            if status == 429 {
                let one = http::HeaderValue::from_static("1");
                response
                    .headers_mut()
                    .insert(http::header::RETRY_AFTER, one);
            }
            return response;
        }
        if request["stream"] == true {
            return streamed(known, &request, plan, guard);
        }
        let wait = plan.latency + plan.gaps.iter().sum::<Duration>();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        guard.tokens(u64::from(plan.tokens));
        whole(known, &request, &plan, guard, takes_gzip(headers))
    }
}

fn ends(fault: Option<&str>) -> End {
    match fault {
        Some("reset" | "lie") => End::Reset,
        Some("stall") => End::Stall,
        _ => End::Complete,
    }
}

fn whole(api: Api, request: &Value, plan: &Plan, guard: Guard, compress: bool) -> Response<Script> {
    let text = Bytes::from(answers::whole(api, request, plan.tokens).to_string());
    let text = if compress { gzip(&text) } else { text };
    let length = text.len();
    let fault = plan.fault.as_deref();
    let sent = match fault {
        Some("reset" | "stall" | "truncate") => text.slice(..length / 2),
        _ => text,
    };
    let declared = match fault {
        // What is sent ends before what was declared.
        Some("lie") => length + 100,
        Some("truncate") => sent.len(),
        _ => length,
    };
    let step = Step {
        after: Duration::ZERO,
        bytes: sent,
        token: false,
    };
    let script = Script::new(vec![step], Some(guard), ends(fault), Some(declared as u64));
    let mut response = Response::new(script);
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    if compress {
        headers.insert("content-encoding", http::HeaderValue::from_static("gzip"));
    }
    response
}

fn streamed(api: Api, request: &Value, plan: Plan, guard: Guard) -> Response<Script> {
    let stream = answers::stream(api, request, plan.tokens);
    let mut steps = Vec::with_capacity(stream.tokens.len() + 2);
    if !stream.before.is_empty() {
        steps.push(Step {
            after: Duration::ZERO,
            bytes: stream.before.into(),
            token: false,
        });
    }
    let waits = std::iter::once(plan.latency).chain(plan.gaps);
    for (after, bytes) in waits.zip(stream.tokens) {
        steps.push(Step {
            after,
            bytes: bytes.into(),
            token: true,
        });
    }
    steps.push(Step {
        after: Duration::ZERO,
        bytes: stream.after.into(),
        token: false,
    });
    let fault = plan.fault.as_deref();
    if matches!(fault, Some("reset" | "stall" | "truncate" | "lie")) {
        steps.truncate(steps.len() / 2);
    }
    let mut response = Response::new(Script::new(steps, Some(guard), ends(fault), None));
    let kind = http::HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert("content-type", kind);
    response
}
