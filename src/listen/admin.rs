//! Operators' connections with TLS, as axum takes them.
//!
//! Promises: handshakes run beside each other, so many at once and no longer than they may, so that
//! a silent caller holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;

use super::Certificate;
use crate::tasks::Tasks;

/// Handshakes at once; further ones wait in the accept queue.
const HANDSHAKES: usize = 64;

type Accepted = (TlsStream<TcpStream>, SocketAddr);

/// Serves operators on a listener, as a task of this owner.
pub fn serve<L>(listener: L, router: axum::Router, tasks: &Tasks)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let served = axum::serve(listener, router).into_future();
    tasks.spawn(async { _ = served.await });
}

/// A listener of connections whose handshake is done.
pub struct Secure {
    done: mpsc::Receiver<Accepted>,
    address: SocketAddr,
}

impl Secure {
    /// Accepts on this socket, as tasks of this owner, for as long as the listener is there.
    pub fn new(
        listener: TcpListener,
        certificate: Arc<Certificate>,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (told, done) = mpsc::channel(HANDSHAKES);
        let owner = tasks.clone();
        tasks.spawn(async move { accept(listener, certificate, told, owner).await });
        Ok(Self { done, address })
    }
}

async fn accept(
    listener: TcpListener,
    certificate: Arc<Certificate>,
    told: mpsc::Sender<Accepted>,
    tasks: Tasks,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    while !told.is_closed() {
        let place = places.clone().acquire_owned().await;
        let (Ok(place), Ok((stream, address))) = (place, listener.accept().await) else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (certificate, told) = (certificate.clone(), told.clone());
        tasks.spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            if let Some(stream) = certificate.shake(stream).await {
                let _ = told.send((stream, address)).await;
            }
        });
    }
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        match self.done.recv().await {
            Some(accepted) => accepted,
            // The gateway is stopping.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
