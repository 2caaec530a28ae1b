//! Callers who do not keep to HTTP: slow, half, gone or noisy.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, sleep, timeout};

use super::World;
use super::identity;

/// Their calls are numbered from here on.
pub const FIRST: u64 = 500_000;

/// `limits.head_timeout`, and the budget of the route `failing`.
const HEAD: Duration = Duration::from_secs(10);
const BUDGET: Duration = Duration::from_secs(2);

/// What may come on top.
const SLACK: Duration = Duration::from_millis(20);

/// Longest that asking takes.
const LONGEST: Duration = Duration::from_secs(30);

/// What one does.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Half of a head, and nothing more.
    HalfHead,
    /// Byte after byte.
    Slow,
    /// The second half of the body comes late.
    LateBody,
    /// It leaves in the midst of its request.
    Leaves,
    /// It closes its half once it has asked.
    Halves,
    /// No HTTP.
    Noise,
}

const MANNERS: [Manner; 6] = [
    Manner::HalfHead,
    Manner::Slow,
    Manner::LateBody,
    Manner::Leaves,
    Manner::Halves,
    Manner::Noise,
];

fn request(call: u64) -> Vec<u8> {
    let body = identity::request(call, false);
    let head = format!(
        "POST /failing/v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\
         content-type: application/json\r\nauthorization: Bearer key-1\r\n{}: {call}\r\n\
         content-length: {}\r\n\r\n",
        identity::CALL,
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Asks in its manner; gives how long the gateway may take to end it from then on.
async fn ask(
    mut stream: impl AsyncWrite + Unpin,
    manner: Manner,
    call: u64,
    random: &mut StdRng,
) -> std::io::Result<Duration> {
    let all = request(call);
    let body = identity::request(call, false).len();
    let head = all.len() - body;
    match manner {
        Manner::HalfHead => {
            // Also of none or one byte, which may yet be HTTP/2.
            let most = random.random_range(0..head - 4);
            stream.write_all(&all[..most]).await?;
            Ok(HEAD)
        }
        Manner::Slow => {
            for byte in &all {
                stream.write_all(&[*byte]).await?;
                sleep(Duration::from_millis(1)).await;
            }
            Ok(BUDGET)
        }
        Manner::LateBody => {
            stream.write_all(&all[..head + body / 2]).await?;
            sleep(Duration::from_millis(random.random_range(0..3_000))).await;
            stream.write_all(&all[head + body / 2..]).await?;
            Ok(BUDGET)
        }
        Manner::Leaves => {
            let most = random.random_range(0..all.len());
            stream.write_all(&all[..most]).await?;
            sleep(Duration::from_millis(random.random_range(0..500))).await;
            Err(std::io::ErrorKind::Interrupted.into())
        }
        Manner::Halves => {
            stream.write_all(&all).await?;
            stream.shutdown().await?;
            Ok(BUDGET)
        }
        Manner::Noise => {
            let noise: Vec<u8> = (0..300).map(|_| random.random()).collect();
            stream.write_all(&noise).await?;
            Ok(HEAD)
        }
    }
}

/// Reads until the other side closes.
async fn closed(mut stream: impl AsyncRead + Unpin) {
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told).await;
}

/// Makes one call: the gateway ends it in time, whatever it thinks of it.
pub async fn call(world: World, call: u64, mut random: StdRng) {
    let manner = MANNERS[random.random_range(0..MANNERS.len())];
    let (mut ear, mouth) = split(world.entrance.raw());
    let asking = ask(mouth, manner, call, &mut random);
    tokio::pin!(asking);
    // What is closed while it is written was ended already.
    let allowed = tokio::select! {
        asked = &mut asking => match asked {
            Ok(allowed) => allowed,
            Err(_) => return,
        },
        () = closed(&mut ear) => return,
        () = sleep(LONGEST) => Duration::ZERO,
    };
    let asked = Instant::now();
    if timeout(allowed + SLACK, closed(&mut ear)).await.is_err() {
        let took = asked.elapsed();
        let text = format!("call {call}: {manner:?} is not ended after {took:?}");
        world.ledger.fault(text);
    }
}
