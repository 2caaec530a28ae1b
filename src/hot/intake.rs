//! Reads a caller's body as far as the call needs it kept.
//!
//! Promises: at most `limits.body` is kept; a longer body is passed on as it comes, with what was
//! read of it already. Of a call that is refused at most 64 KiB are read, for at most a second.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::upstream::body::OutBody;
use crate::upstream::inflow::{Fault, Inflow};
use crate::upstream::queue::Queue;

/// Longest body of a refused call that is read.
const DISCARDED: u64 = 64 << 10;

/// Longest wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A call as it came.
pub struct Asked {
    /// Its head.
    pub parts: Parts,
    /// Its body, until it is passed on as it comes.
    pub body: Option<Inflow<Incoming>>,
    /// What of it was read to see how it begins.
    pub begun: Bytes,
    /// It asks for another protocol.
    pub is_upgrade: bool,
}

/// A body after intake.
pub enum Kept {
    /// All of it.
    Whole(Bytes, Option<Box<HeaderMap>>),
    /// Not kept: to be sent once.
    Once(OutBody),
}

/// Reads a call's body until there is something of it.
pub(super) async fn begin(call: &mut Asked) -> Result<(), Fault> {
    let Some(body) = &mut call.body else {
        return Ok(());
    };
    while call.begun.is_empty()
        && !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        call.begun = frame?.into_data().unwrap_or_default();
    }
    Ok(())
}

/// Keeps a call's body if it is small enough; tells how long its caller was waited for. It is read
/// where it is, and taken from there only where it is passed on as it comes.
pub(super) async fn keep(call: &mut Asked, limit: usize) -> Result<(Kept, Duration), Fault> {
    let Some(body) = &mut call.body else {
        return Ok((Kept::Whole(Bytes::new(), None), Duration::ZERO));
    };
    if body.is_end_stream() {
        let begun = std::mem::take(&mut call.begun);
        return Ok((Kept::Whole(begun, None), body.waited()));
    }
    if body.size_hint().lower() > limit as u64 {
        let waited = body.waited();
        return Ok((Kept::Once(once(call, Queue::default())), waited));
    }
    let mut read = Queue::default();
    let mut length = call.begun.len();
    if length > 0 {
        read.push(std::mem::take(&mut call.begun));
    }
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                length += data.len();
                read.push(data);
            }
            Err(frame) => trailers = frame.into_trailers().ok().map(Box::new),
        }
        if length > limit {
            let waited = body.waited();
            return Ok((Kept::Once(once(call, read)), waited));
        }
        // The announced length is there: the end needs no further turn.
        if body.is_end_stream() {
            break;
        }
    }
    Ok((Kept::Whole(joined(read, length), trailers), body.waited()))
}

/// A call's body to be passed on as it comes, after what was read of it.
pub(super) fn once(call: &mut Asked, mut read: Queue<Bytes>) -> OutBody {
    if !call.begun.is_empty() {
        read.push(std::mem::take(&mut call.begun));
    }
    call.body.take().map_or_else(
        || OutBody::kept(Bytes::new()),
        |rest| OutBody::streamed(read, rest),
    )
}

/// Reads the body of a call that is refused, if it is short and on its way: its connection can go on
/// then, and a caller over its rate does not come back with a new one for each try.
pub(super) async fn discard(mut call: Asked) {
    let Some(body) = &mut call.body else { return };
    let ends = body.size_hint().upper();
    let short = ends.is_some_and(|length| length <= DISCARDED);
    // Over HTTP/2 a stream ends alone; who waits for `100 Continue` has not sent anything yet.
    let comes = !call.parts.headers.contains_key(EXPECT);
    if call.parts.version < Version::HTTP_2 && short && comes {
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        let _ = tokio::time::timeout(PATIENCE, rest).await;
    }
}

fn joined(mut parts: Queue<Bytes>, length: usize) -> Bytes {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(length);
    for part in parts.iter() {
        all.extend_from_slice(part);
    }
    all.freeze()
}
