//! A new connection to a provider: name, TCP, TLS, HTTP handshake.
//!
//! Promises: the first address that answers is taken; each next one is tried as soon as one failed, and
//! beside one that is silent (Happy Eyeballs, RFC 8305). Never blocks the runtime.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::sleep;
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

/// After this a silent address is not waited for alone (RFC 8305 section 8).
const SILENCE: Duration = Duration::from_millis(250);

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
        let connected = first(addresses, TcpStream::connect).await;
        let stream = connected.map_err(|error| match error {
            Some(error) => ConnectError::Failed(format!("{}:{}: {error}", self.host, self.port)),
            None => ConnectError::Name(self.host.clone()),
        })?;
        tune(&stream);
        Ok(stream)
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

/// The first connection that comes about, or the last error; `None`: there is no address.
async fn first<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Option<io::Error>>
where
    F: Future<Output = io::Result<T>>,
{
    let mut rest = addresses.into_iter();
    let (mut running, mut last) = (FuturesUnordered::new(), None);
    running.extend(rest.next().map(&connect));
    while !running.is_empty() {
        let more = !rest.as_slice().is_empty();
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(one) => return Ok(one),
                Err(error) => last = Some(error),
            },
            () = sleep(SILENCE), if more => {}
        }
        running.extend(rest.next().map(&connect));
    }
    Err(last)
}

/// A host without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// No delay for small writes, and a probe of silent peers: one that vanished ends its connection, also where
/// that is a tunnel and nothing is written to it. Both are best effort.
pub fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([127, 0, 0, last], 1).into()
    }

    /// Of these addresses the first is silent, the second refuses, and the third answers.
    async fn connect(to: SocketAddr) -> io::Result<SocketAddr> {
        match to {
            silent if silent == address(1) => pending().await,
            refuses if refuses == address(2) => Err(io::ErrorKind::ConnectionRefused.into()),
            answers => Ok(answers),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_holds_no_connection_up() {
        let (began, all) = (Instant::now(), vec![address(1), address(2), address(3)]);
        let connected = first(all, connect).await.expect("one answers");
        assert_eq!(connected, address(3));
        assert_eq!(began.elapsed(), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn where_none_answers_the_last_error_is_told() {
        let why = first(vec![address(2)], connect)
            .await
            .expect_err("it refuses");
        let kind = why.map(|why| why.kind());
        assert_eq!(kind, Some(io::ErrorKind::ConnectionRefused));
        assert!(
            first(Vec::new(), connect)
                .await
                .is_err_and(|why| why.is_none())
        );
    }
}
