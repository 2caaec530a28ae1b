//! A proxy of bytes before a provider or a receiver of callbacks, with a weather of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// Bytes pass.
    Fair,
    /// Nobody listens, and what is open is reset.
    Refuses,
    /// Each is reset with the first bytes of an answer.
    Resets,
    /// No byte passes; nothing is closed.
    Stalls,
    /// It is closed after half of the bytes that come next.
    Truncates,
    /// Junk comes instead of the bytes that come next.
    Garbles,
}

/// A proxy that runs.
pub struct Proxy {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Proxy {
    /// Starts one before an address, on the runtime that it is called on.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(to: SocketAddr, tasks: &mut JoinSet<()>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather::Fair);
        tasks.spawn(async move {
            // An address that is taken ends the run: its provider is away for good.
            let _ = serve(listener, address, to, seen).await;
        });
        Ok(Self { address, weather })
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn serve(
    mut listener: TcpListener,
    address: SocketAddr,
    to: SocketAddr,
    mut weather: watch::Receiver<Weather>,
) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        if *weather.borrow_and_update() == Weather::Refuses {
            drop(listener);
            let _ = weather.wait_for(|now| *now != Weather::Refuses).await;
            listener = TcpListener::bind(address).await?;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(pass(stream, to, weather.clone()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            },
            _ = weather.changed() => {}
        }
        while connections.try_join_next().is_some() {}
    }
}

fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// One connection, until either side closes it or the weather does.
async fn pass(mut near: TcpStream, to: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let Ok(mut far) = TcpStream::connect(to).await else {
        return reset(near);
    };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (mut asked, mut told) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    loop {
        let now = *weather.borrow_and_update();
        match now {
            Weather::Refuses => return reset(near),
            Weather::Stalls => {
                if weather.changed().await.is_err() {
                    return;
                }
                continue;
            }
            _ => {}
        }
        let passed = tokio::select! {
            _ = weather.changed() => continue,
            read = near.read(&mut asked) => match read {
                Ok(count) if count > 0 => far.write_all(&asked[..count]).await,
                _ => return,
            },
            read = far.read(&mut told) => match read {
                Ok(count) if count > 0 => match now {
                    Weather::Resets => {
                        let _ = near.write_all(&told[..count.min(40)]).await;
                        return reset(near);
                    }
                    Weather::Truncates => {
                        let _ = near.write_all(&told[..count / 2]).await;
                        return;
                    }
                    Weather::Garbles => {
                        let junk: Vec<u8> = (0..count).map(|_| rand::random()).collect();
                        let _ = near.write_all(&junk).await;
                        return;
                    }
                    _ => near.write_all(&told[..count]).await,
                },
                _ => return,
            },
        };
        if passed.is_err() {
            return;
        }
    }
}
