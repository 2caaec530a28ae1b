//! Names and connections as a sender of callbacks sees them; tests have a world of their own.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::upstream::names::Names;

/// Bytes both ways.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// An open connection.
pub type Stream = Box<dyn Wire>;

/// Names and connections.
pub trait Network: Send + Sync + 'static {
    /// Every address of a name.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;

    /// A connection to this address and no other.
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>>;
}

/// This machine's names and sockets; `None`: no name is known. No proxy is ever used.
pub struct System(pub Option<Names>);

impl Network for System {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let name = self.0.as_ref().map(|names| names.of(host));
            let found = match name {
                Some(name) => name.addresses().await,
                None => None,
            };
            let unknown = || io::Error::other("the name could not be resolved");
            found.map(|found| found.to_vec()).ok_or_else(unknown)
        })
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            Ok(Box::new(stream) as Stream)
        })
    }
}
