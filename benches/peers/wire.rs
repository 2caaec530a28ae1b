//! HTTP/1.1 by hand, so that load and provider cost as little as they can.

use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Reads one message: head, and a body of its `Content-Length`. False at the end of the stream.
pub async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<bool> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(false);
        }
        let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else {
            continue;
        };
        let whole = end + 4 + length(&buffer[..end])?;
        while buffer.len() < whole {
            if stream.read_buf(buffer).await? == 0 {
                return Ok(false);
            }
        }
        return Ok(true);
    }
}

fn length(head: &[u8]) -> Result<usize> {
    for line in head.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_at_checked(15) else {
            continue;
        };
        if name.eq_ignore_ascii_case(b"content-length:") {
            return Ok(std::str::from_utf8(value)?.trim().parse()?);
        }
    }
    Ok(0)
}

/// What stands before and behind the text of a chat completion.
const COMPLETION: (&str, &str) = (
    r#"{"id":"x","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":""#,
    r#""}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#,
);

/// A provider that answers at once with a chat completion of so many bytes.
pub async fn instant(listener: TcpListener, size: usize) -> Result<()> {
    let (before, after) = COMPLETION;
    let filler = "y".repeat(size.saturating_sub(before.len() + after.len()));
    let body = format!("{before}{filler}{after}");
    let answer: Arc<str> = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into();
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        connections.spawn(async move {
            let mut buffer = Vec::new();
            while message(&mut stream, &mut buffer).await.unwrap_or(false) {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// A chat completion with a body of about so many bytes; `more` are header lines.
pub fn call(size: usize, stream: bool, more: &str) -> Arc<str> {
    let body = format!(
        r#"{{"model":"gpt-4o","stream":{stream},"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "z".repeat(size.saturating_sub(78))
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         authorization: Bearer k\r\n{more}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}
