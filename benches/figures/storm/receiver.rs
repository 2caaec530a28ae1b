//! Receives callbacks: verifies each with the reference library and keeps what it told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// One callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub webhook: String,
    pub job: String,
    pub kind: String,
    /// The provider's id of the answer that it brought.
    pub answer: Option<String>,
}

/// What arrived.
#[derive(Default)]
pub struct Arrived {
    /// By the callers' call.
    pub told: HashMap<u32, Vec<Told>>,
    /// Why a callback was not taken.
    pub refused: Vec<String>,
}

/// A receiver of callbacks.
#[derive(Clone)]
pub struct Receiver {
    arrived: Arc<Mutex<Arrived>>,
    webhook: Arc<Webhook>,
}

impl Receiver {
    /// # Errors
    /// The secret is none.
    pub fn new(secret: &str) -> Result<Self> {
        Ok(Self {
            arrived: Arc::default(),
            webhook: Arc::new(Webhook::new(secret)?),
        })
    }

    pub fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it on the runtime that it is called on.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(&self, tasks: &mut JoinSet<()>) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tasks.spawn(self.clone().serve(listener));
        Ok(address)
    }

    async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            let receiver = self.clone();
            connections.spawn(async move {
                let service = service_fn(|request| {
                    let taken = receiver.clone().take(request);
                    async move { Ok::<_, Infallible>(taken.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn take(self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let mut response = Response::new(Empty::new());
        let (parts, body) = request.into_parts();
        // A gateway that dies in the midst has told nothing.
        let Ok(body) = body.collect().await else {
            return response;
        };
        let body = body.to_bytes();
        let read = self.read(&parts, &body);
        let mut arrived = self.arrived();
        match read {
            Ok((tag, told)) => {
                arrived.told.entry(tag).or_default().push(told);
                *response.status_mut() = http::StatusCode::NO_CONTENT;
            }
            Err(why) => {
                arrived.refused.push(why.to_string());
                *response.status_mut() = http::StatusCode::BAD_REQUEST;
            }
        }
        response
    }

    fn read(&self, parts: &http::request::Parts, body: &[u8]) -> Result<(u32, Told)> {
        use anyhow::Context as _;
        self.webhook.verify(body, &parts.headers)?;
        let tag = parts.uri.path().trim_start_matches("/hook/").parse()?;
        let webhook = parts.headers.get("webhook-id").context("no webhook-id")?;
        let told: serde_json::Value = serde_json::from_slice(body)?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let data = &told["data"];
        let told = Told {
            webhook: webhook.to_str()?.to_owned(),
            job: text(&data["id"]).context("no job")?,
            kind: text(&told["type"]).context("no type")?,
            answer: text(&data["response"]["body"]["id"]),
        };
        Ok((tag, told))
    }
}
