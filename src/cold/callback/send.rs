//! One POST to a receiver: resolved, judged, pinned, within one time limit.
//!
//! Promises: no byte is sent to an address that was not judged; a redirect is an answer like any
//! other; of the answer only the head is read, up to a limit.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::guard::{Address, AddressGuard};
use super::network::{Network, Stream};

/// A receiver's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// An address of the name reaches inside. Which one is not said: the caller would learn the
    /// addresses of names inside.
    #[error(
        "{0} resolves to an address that is not public, so nothing was sent; name it in \
         callbacks.allow if it is meant to be reached"
    )]
    Inside(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl SendError {
    /// Its word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Inside(_) => "forbidden_address",
            Self::Failed(_) => "connection",
            Self::TimedOut(_) => "timeout",
        }
    }
}

/// Makes one delivery.
pub trait Post: Send + Sync + 'static {
    /// Posts a body to a receiver.
    fn post<'a>(
        &'a self,
        address: &'a Address,
        headers: HeaderMap,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Reply, SendError>>;
}

/// Sends callbacks.
pub struct Sender {
    guard: Arc<AddressGuard>,
    network: Arc<dyn Network>,
    tls: Arc<ClientConfig>,
    limit: Duration,
}

/// Addresses of a name that are tried, within the limit of one delivery.
const TRIED: u32 = 3;

/// Longest head of an answer; its body is never read.
const HEAD: usize = 16 << 10;

impl Post for Sender {
    fn post<'a>(
        &'a self,
        address: &'a Address,
        headers: HeaderMap,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Reply, SendError>> {
        Box::pin(async move {
            tokio::time::timeout(self.limit, self.attempt(address, headers, body))
                .await
                .map_err(|_| SendError::TimedOut(self.limit))?
        })
    }
}

impl Sender {
    /// A sender; `limit` bounds each delivery, from its name to its answer's head.
    pub fn new(
        guard: Arc<AddressGuard>,
        network: Arc<dyn Network>,
        tls: Arc<ClientConfig>,
        limit: Duration,
    ) -> Self {
        Self {
            guard,
            network,
            tls,
            limit,
        }
    }

    async fn attempt(
        &self,
        address: &Address,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, SendError> {
        let failed =
            |error: &dyn std::fmt::Display| SendError::Failed(format!("{}: {error}", address.host));
        let request = request(address, headers, body).map_err(|error| failed(&error))?;
        let stream = self.connect(address).await?;
        if !address.secure {
            return exchange(stream, request)
                .await
                .map_err(|error| failed(&error));
        }
        let name = ServerName::try_from(address.host.clone()).map_err(|error| failed(&error))?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await
            .map_err(|error| failed(&error))?;
        exchange(stream, request)
            .await
            .map_err(|error| failed(&error))
    }

    /// Resolves the name once and judges every address of it. One that reaches inside is enough to
    /// refuse all: a name that is both public and private is a trap, or a mistake.
    async fn addresses(&self, address: &Address) -> Result<Vec<IpAddr>, SendError> {
        let failed = |why: String| SendError::Failed(format!("{}: {why}", address.host));
        let found = match address.host.parse() {
            Ok(literal) => vec![literal],
            Err(_) => self
                .network
                .resolve(&address.host)
                .await
                .map_err(|error| failed(error.to_string()))?,
        };
        if found.is_empty() {
            return Err(failed("the name has no address".into()));
        }
        if found.iter().all(|ip| self.guard.judge(address, *ip)) {
            Ok(found)
        } else {
            Err(SendError::Inside(address.host.clone()))
        }
    }

    /// Connects to an address that was judged; the name is not resolved again.
    async fn connect(&self, address: &Address) -> Result<Stream, SendError> {
        let failed = |why: String| SendError::Failed(format!("{}: {why}", address.host));
        let mut last = failed("the name has no address".into());
        for ip in self
            .addresses(address)
            .await?
            .into_iter()
            .take(TRIED as usize)
        {
            let connect = self.network.connect(SocketAddr::new(ip, address.port));
            last = match tokio::time::timeout(self.limit / TRIED, connect).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed(error.to_string()),
                Err(_) => failed("no connection in time".into()),
            };
        }
        Err(last)
    }
}

fn request(
    address: &Address,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let path = address
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let authority = address
        .uri
        .authority()
        .map_or("", |authority| authority.as_str());
    let length = body.len();
    let mut request = Request::post(path).body(Full::new(body))?;
    *request.headers_mut() = headers;
    let own = request.headers_mut();
    own.insert(HOST, HeaderValue::from_str(authority)?);
    own.insert(CONTENT_LENGTH, length.into());
    own.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    own.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("shunt/", env!("CARGO_PKG_VERSION"))),
    );
    Ok(request)
}

/// Sends on a connection that is used once; its driver lives and ends with this future.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Reply, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD);
    let (mut sender, mut driver) = builder.handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer?,
        driven = &mut driver => {
            driven?;
            answer.await?
        }
    };
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(seconds);
    Ok(Reply {
        status: answer.status(),
        retry_after,
    })
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    at.duration_since(std::time::SystemTime::now()).ok()
}
