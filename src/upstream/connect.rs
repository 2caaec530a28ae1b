//! A new connection to a provider: name, TCP, TLS, HTTP handshake.
//!
//! Promises: names are cached by their TTL; addresses are tried one after the other within the
//! limit. Never blocks the runtime.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::body::OutBody;
use crate::config::Protocol;
use crate::tasks::Tasks;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("the name {0} could not be resolved")]
    Name(String),
    /// TCP, TLS or HTTP did not come about.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
}

/// The limit of one connection, whoever waits for it.
const LONGEST: Duration = Duration::from_secs(30);

/// Opens a connection in memory to a host and a port.
pub type Connector =
    Arc<dyn Fn(&str, u16) -> BoxFuture<'static, io::Result<DuplexStream>> + Send + Sync>;

/// What connections are made of.
#[derive(Clone, Default)]
pub enum Transport {
    /// Sockets, with TLS where the provider wants it.
    #[default]
    Sockets,
    /// Memory, without TLS: for tests on virtual time, whose clock would run away from a socket.
    Memory(Connector),
}

/// The sending half of a connection.
pub enum Sender {
    /// One call at a time.
    Http1(http1::SendRequest<OutBody>),
    /// Many at once.
    Http2(http2::SendRequest<OutBody>),
}

/// Opens connections to one provider.
pub struct Dialer {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    protocol: Protocol,
    resolver: Option<Arc<TokioResolver>>,
    transport: Transport,
    tasks: Tasks,
}

impl Dialer {
    /// A dialer; `tls` for `https`.
    pub fn new(
        host: String,
        port: u16,
        tls: Option<(TlsConnector, ServerName<'static>)>,
        protocol: Protocol,
        resolver: Option<Arc<TokioResolver>>,
        tasks: Tasks,
    ) -> Self {
        Self {
            host,
            port,
            tls,
            protocol,
            resolver,
            transport: Transport::Sockets,
            tasks,
        }
    }

    /// The same over another transport.
    #[must_use]
    pub fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// Whether HTTP/2 is certain before a connection was made.
    pub fn only_http2(&self) -> bool {
        self.protocol == Protocol::Http2
    }

    /// The provider's addresses, from the cache while their TTL lasts.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        if let Some(resolver) = &self.resolver
            && let Ok(found) = resolver.lookup_ip(host).await
        {
            let found: Vec<SocketAddr> = found
                .iter()
                .map(|address| SocketAddr::new(address, self.port))
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        // What only the system knows: other name services than DNS.
        match tokio::net::lookup_host((host, self.port)).await {
            Ok(found) => Ok(found.collect()),
            Err(_) => Err(ConnectError::Name(self.host.clone())),
        }
    }

    /// Opens a connection; its driver is a task of this process, and `guard` lives as long as it.
    pub async fn dial<G: Send + 'static>(&self, guard: G) -> Result<Sender, ConnectError> {
        tokio::time::timeout(LONGEST, self.attempt(guard))
            .await
            .map_err(|_| ConnectError::TimedOut(LONGEST))?
    }

    async fn attempt<G: Send + 'static>(&self, guard: G) -> Result<Sender, ConnectError> {
        if let Transport::Memory(connect) = &self.transport {
            let failed = |error| ConnectError::Failed(format!("{}: {error}", self.host));
            let stream = connect(&self.host, self.port).await.map_err(failed)?;
            return self.handshake(stream, self.only_http2(), guard).await;
        }
        let stream = self.tcp().await?;
        let Some((connector, name)) = &self.tls else {
            let http2 = self.protocol == Protocol::Http2;
            return self.handshake(stream, http2, guard).await;
        };
        // Boxed, as what HTTP/2 needs below: else each connection without them has room for them.
        let stream = Box::pin(connector.connect(name.clone(), stream))
            .await
            .map_err(|error| ConnectError::Failed(format!("TLS with {}: {error}", self.host)))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2") || self.only_http2();
        Box::pin(self.handshake(stream, http2, guard)).await
    }

    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let addresses = self.addresses().await?;
        let mut last = ConnectError::Name(self.host.clone());
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        for address in addresses {
            match tokio::time::timeout(LONGEST / count, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => {
                    last = ConnectError::Failed(format!("{}: {error}", self.host));
                }
                Err(_) => last = ConnectError::TimedOut(LONGEST / count),
            }
        }
        Err(last)
    }

    async fn handshake<S, G>(
        &self,
        stream: S,
        http2: bool,
        guard: G,
    ) -> Result<Sender, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        G: Send + 'static,
    {
        let failed = |error: hyper::Error| ConnectError::Failed(format!("{}: {error}", self.host));
        let stream = TokioIo::new(stream);
        if http2 {
            let mut builder = http2::Builder::new(self.tasks.clone());
            builder
                .timer(TokioTimer::new())
                .adaptive_window(true)
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10))
                .keep_alive_while_idle(true);
            let (sender, driver) = Box::pin(builder.handshake(stream)).await.map_err(failed)?;
            self.tasks.spawn(driver.map(move |_| drop(guard)));
            return Ok(Sender::Http2(sender));
        }
        let (sender, driver) = http1::Builder::new()
            .handshake(stream)
            .await
            .map_err(failed)?;
        // A block that awaited it would keep it twice.
        let driver = driver.with_upgrades();
        self.tasks.spawn(driver.map(move |_| drop(guard)));
        Ok(Sender::Http1(sender))
    }
}

/// No delay for small writes, and a probe of silent peers; both are best effort.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
