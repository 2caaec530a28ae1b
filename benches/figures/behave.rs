//! Providers on a thread of their own, whose behaviour a figure decides call by call, and callers
//! at a constant arrival rate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rig::Client;

/// How a provider answers one call: after how long, and with which status. It is told the
/// listener and the number of the call there.
pub type Behaviour = dyn Fn(usize, u64) -> (Duration, u16) + Send + Sync;

/// Providers that run until the process ends.
pub struct Providers {
    pub addresses: Vec<SocketAddr>,
    /// Calls that arrived, by listener.
    pub seen: Arc<Vec<AtomicU64>>,
}

const EVENT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n";

impl Providers {
    /// So many listeners on one thread.
    pub fn start(count: usize, behave: Arc<Behaviour>) -> Result<Self> {
        let seen: Arc<Vec<AtomicU64>> = Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
        let (told, addresses) = mpsc::channel();
        let counters = seen.clone();
        std::thread::Builder::new()
            .name("providers".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    let mut listeners = JoinSet::new();
                    for at in 0..count {
                        let listener = TcpListener::bind("127.0.0.1:0").await?;
                        told.send(listener.local_addr()?)?;
                        listeners.spawn(serve(at, listener, behave.clone(), counters.clone()));
                    }
                    while listeners.join_next().await.is_some() {}
                    anyhow::Ok(())
                })
            })?;
        let addresses: Vec<SocketAddr> = addresses.iter().take(count).collect();
        anyhow::ensure!(addresses.len() == count, "a provider did not start");
        Ok(Self { addresses, seen })
    }

    /// Calls that arrived at all of them.
    pub fn total(&self) -> u64 {
        self.seen
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

async fn serve(
    at: usize,
    listener: TcpListener,
    behave: Arc<Behaviour>,
    seen: Arc<Vec<AtomicU64>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (behave, seen) = (behave.clone(), seen.clone());
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let call = seen[at].fetch_add(1, Ordering::Relaxed);
                let (delay, status) = behave(at, call);
                async move {
                    let due = Instant::now() + delay;
                    let _ = request.into_body().collect().await;
                    if !delay.is_zero() {
                        tokio::time::sleep_until(due).await;
                    }
                    let mut response =
                        Response::new(Full::new(Bytes::from_static(EVENT.as_bytes())));
                    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
                    let kind = "text/event-stream".parse().expect("a header value");
                    response.headers_mut().insert("content-type", kind);
                    Ok::<_, Infallible>(response)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// One call: when it was due, in seconds from the start, how long it took from then, its status.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    pub due: f64,
    pub took: f64,
    pub status: u16,
}

/// Connections that rest between calls.
pub type Rested = Arc<Mutex<Vec<Client>>>;

/// A connection that rests, or a new one.
pub async fn connect(rested: &Rested, address: SocketAddr) -> Result<Client> {
    let taken = {
        let mut rested = rested.lock().unwrap_or_else(PoisonError::into_inner);
        // One that rested too long was closed by the gateway.
        loop {
            match rested.pop() {
                Some(client) if client.is_closed() => {}
                taken => break taken,
            }
        }
    };
    match taken {
        Some(client) => Ok(client),
        None => Client::connect(address).await,
    }
}

/// Lets a connection rest.
pub fn rest(rested: &Rested, client: Client) {
    rested
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(client);
}

/// One call on a connection that rests, or on a new one.
pub async fn call(rested: &Rested, address: SocketAddr, path: &str, body: Bytes) -> Result<u16> {
    let mut client = connect(rested, address).await?;
    let (status, _) = client.whole(path, body).await.context("a call broke")?;
    rest(rested, client);
    Ok(status)
}

/// Streamed calls at a constant rate, for so many seconds.
pub async fn arrive(address: SocketAddr, rate: u32, seconds: u32) -> Result<Vec<Called>> {
    let body = Bytes::from_static(br#"{"model":"m","messages":[],"stream":true}"#);
    let rested = Rested::default();
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for number in 0..rate * seconds {
        let due = Duration::from_secs(1) / rate * number;
        tokio::time::sleep_until(began + due).await;
        let (rested, body) = (rested.clone(), body.clone());
        callers.spawn(async move {
            let status = call(&rested, address, "/v1/chat/completions", body).await?;
            anyhow::Ok(Called {
                due: due.as_secs_f64(),
                took: (began + due).elapsed().as_secs_f64(),
                status,
            })
        });
    }
    let mut all = Vec::new();
    while let Some(done) = callers.join_next().await {
        all.push(done??);
    }
    Ok(all)
}
