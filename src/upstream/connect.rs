//! A new connection to a provider: name, TCP, TLS, HTTP handshake.
//!
//! Promises: addresses are tried one after the other within the limit. Never blocks the runtime.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::body::OutBody;
use super::names::Name;
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
    /// `None`: the host is an address, or nothing has names.
    name: Option<Arc<Name>>,
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
        name: Option<Arc<Name>>,
        tasks: Tasks,
    ) -> Self {
        Self {
            host,
            port,
            tls,
            protocol,
            name,
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

    /// Looks the provider's name up, so that it is known when a call needs it.
    pub fn look_up(&self) {
        if let Some(name) = &self.name {
            drop(name.look_up());
        }
    }

    /// The provider's addresses.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let found = match (bare(&self.host).parse::<IpAddr>(), &self.name) {
            (Ok(address), _) => Some(Arc::from([address])),
            (Err(_), Some(name)) => name.addresses().await,
            (Err(_), None) => None,
        };
        let found = found.ok_or_else(|| ConnectError::Name(self.host.clone()))?;
        let address = |ip: &IpAddr| SocketAddr::new(*ip, self.port);
        Ok(found.iter().map(address).collect())
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
                    last =
                        ConnectError::Failed(format!("{}:{}: {error}", self.host, address.port()));
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

/// A host without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// No delay for small writes, and a probe of silent peers; both are best effort.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
