//! One POST to a receiver: resolved, judged, pinned, without redirects, within one time limit.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::guard::{Address, AddressGuard};

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
    /// Every address of the name reaches inside.
    #[error("{0} resolves to no public address; name it in callbacks.allow if it is meant")]
    Inside(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// Sends callbacks.
pub struct Sender {
    guard: Arc<AddressGuard>,
    tls: Arc<ClientConfig>,
    limit: Duration,
}

impl Sender {
    /// A sender; `limit` bounds each delivery, from its name to its answer's head.
    pub fn new(guard: Arc<AddressGuard>, tls: Arc<ClientConfig>, limit: Duration) -> Self {
        Self { guard, tls, limit }
    }

    /// Posts a body.
    pub async fn post(
        &self,
        address: &Address,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, SendError> {
        tokio::time::timeout(self.limit, self.attempt(address, headers, body))
            .await
            .map_err(|_| SendError::TimedOut(self.limit))?
    }

    async fn attempt(
        &self,
        address: &Address,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, SendError> {
        let failed =
            |error: &dyn std::fmt::Display| SendError::Failed(format!("{}: {error}", address.host));
        let stream = self.connect(address).await?;
        let request = request(address, headers, body).map_err(|error| failed(&error))?;
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

    /// Connects to an address that was judged; the name is not resolved again.
    async fn connect(&self, address: &Address) -> Result<TcpStream, SendError> {
        let failed =
            |error: std::io::Error| SendError::Failed(format!("{}: {error}", address.host));
        let found: Vec<IpAddr> = match address.host.parse() {
            Ok(literal) => vec![literal],
            Err(_) => tokio::net::lookup_host((address.host.as_str(), address.port))
                .await
                .map_err(failed)?
                .map(|found| found.ip())
                .collect(),
        };
        let mut last = SendError::Inside(address.host.clone());
        for ip in found
            .into_iter()
            .filter(|ip| self.guard.judge(address, *ip))
        {
            match TcpStream::connect(SocketAddr::new(ip, address.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = failed(error),
            }
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
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(driver, answer);
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer?,
            driven = &mut driver => driven?,
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
