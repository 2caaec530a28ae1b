//! A provider that does not keep to HTTP: its bytes are written by hand, on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, split,
};
use tokio::time::sleep;

use super::identity;
use super::ledger::Ledger;
use super::provider::{Fate, draw_latency};

/// In what it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The length that it declares is too small: the rest of its answer is junk.
    Short,
    /// The length is too large, and the connection is closed.
    Long,
    /// The length is too large, and nothing more comes.
    LongAndStops,
    /// Two lengths that differ.
    TwoLengths,
    /// A length of a chunk that is no number.
    BadChunk,
    /// No HTTP at all.
    Noise,
    /// A head that never ends.
    EndlessHead,
    /// Informational answers before the true one.
    Informs,
    /// A whole answer, and junk.
    Junk,
    /// A whole answer whose headers about limits and times are nonsense.
    Nonsense,
}

const LIES: [Lie; 10] = [
    Lie::Short,
    Lie::Long,
    Lie::LongAndStops,
    Lie::TwoLengths,
    Lie::BadChunk,
    Lie::Noise,
    Lie::EndlessHead,
    Lie::Informs,
    Lie::Junk,
    Lie::Nonsense,
];

/// What no program should believe.
const NONSENSE: &str = "retry-after: -99999999999999999999\r\n\
    x-ratelimit-limit-requests: 0\r\n\
    x-ratelimit-remaining-requests: -5\r\n\
    x-ratelimit-reset-requests: 99999999999999999999h\r\n\
    x-ratelimit-limit-tokens: NaN\r\n\
    x-ratelimit-remaining-tokens: 1e308\r\n\
    x-ratelimit-reset-tokens: soon\r\n\
    date: Thu, 32 Foo 0000 25:61:61 GMT\r\n";

impl Lie {
    /// Whether its answer is whole none the less.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Informs | Self::Junk | Self::Nonsense)
    }
}

/// A request: its call and its body; `None`: the connection is over.
async fn read(stream: &mut DuplexStream) -> Option<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let head = all.windows(4).position(|part| part == b"\r\n\r\n");
        if let Some(head) = head {
            let lines = String::from_utf8_lossy(&all[..head]).to_lowercase();
            let number = |name: &str| {
                let mut found = lines.lines().filter_map(|line| line.split_once(':'));
                let (_, value) = found.find(|(one, _)| *one == name)?;
                value.trim().parse::<u64>().ok()
            };
            let length = usize::try_from(number("content-length")?).ok()?;
            if all.len() >= head + 4 + length {
                return Some((number(identity::CALL)?, all[head + 4..].to_vec()));
            }
        }
        if stream.read_buf(&mut all).await.ok()? == 0 {
            return None;
        }
    }
}

/// Waits until the other side closes the connection.
async fn closed(mut stream: impl AsyncRead + Unpin) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
}

fn head(lie: Lie, call: u64, streamed: bool, length: usize) -> String {
    let kind = if streamed {
        "text/event-stream"
    } else {
        "application/json"
    };
    let first = match lie {
        Lie::Informs => {
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        }
        _ => "",
    };
    let name = identity::CALL;
    let lengths = match lie {
        Lie::Short => format!("content-length: {}\r\n", length / 2),
        Lie::Long | Lie::LongAndStops => format!("content-length: {}\r\n", length + 7),
        Lie::TwoLengths => format!(
            "content-length: {length}\r\ncontent-length: {}\r\n",
            length + 1
        ),
        Lie::BadChunk => "transfer-encoding: chunked\r\n".into(),
        _ => format!("content-length: {length}\r\n"),
    };
    let nonsense = if lie == Lie::Nonsense { NONSENSE } else { "" };
    format!(
        "{first}HTTP/1.1 200 OK\r\n{name}: {call}\r\ncontent-type: {kind}\r\n{lengths}{nonsense}\r\n"
    )
}

/// Answers one call; an error: the connection is over.
async fn answer(
    mut stream: impl AsyncWrite + Unpin,
    lie: Lie,
    call: u64,
    streamed: bool,
    random: &mut StdRng,
) -> std::io::Result<()> {
    sleep(draw_latency(random)).await;
    if lie == Lie::Noise {
        let noise: Vec<u8> = (0..200).map(|_| random.random()).collect();
        return stream.write_all(&noise).await;
    }
    if lie == Lie::EndlessHead {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            stream.write_all(b"x-more: and more\r\n").await?;
            sleep(Duration::from_millis(200)).await;
        }
    }
    let pieces: Vec<Bytes> = identity::pieces(call, streamed);
    let length = pieces.iter().map(Bytes::len).sum();
    let head = head(lie, call, streamed, length);
    stream.write_all(head.as_bytes()).await?;
    for piece in &pieces {
        if lie == Lie::BadChunk {
            stream.write_all(b"no number\r\n").await?;
        }
        sleep(Duration::from_millis(random.random_range(0..30))).await;
        stream.write_all(piece).await?;
    }
    if lie == Lie::Junk {
        stream.write_all(b"and one more thing").await?;
    }
    Ok(())
}

/// Serves one connection, lying each time.
pub async fn serve(ledger: Ledger, provider: usize, mut random: StdRng, mut stream: DuplexStream) {
    while let Some((call, body)) = read(&mut stream).await {
        let lie = LIES[random.random_range(0..LIES.len())];
        let open = ledger.begin(call, provider, Fate::Lies(lie));
        let streamed = body == identity::request(call, true);
        if !streamed && body != identity::request(call, false) {
            ledger.fault(format!("call {call}: its request holds other bytes"));
        }
        let whole = {
            let (ear, mouth) = split(&mut stream);
            let answering = answer(mouth, lie, call, streamed, &mut random);
            tokio::select! {
                biased;
                answered = answering => answered.is_ok(),
                () = closed(ear) => false,
            }
        };
        if !whole {
            return;
        }
        if lie == Lie::LongAndStops {
            return closed(&mut stream).await;
        }
        open.done();
        if !matches!(lie, Lie::Informs | Lie::Nonsense) {
            return;
        }
    }
}
