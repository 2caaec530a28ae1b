//! Reads a caller's body as far as the call needs it kept.
//!
//! Promises: at most `limits.body` is kept; a longer body is passed on as it comes, with what was
//! read of it already.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::upstream::body::OutBody;
use crate::upstream::inflow::{Fault, Inflow};
use crate::upstream::queue::Queue;

/// A body after intake.
pub enum Kept {
    /// All of it.
    Whole(Bytes, Option<Box<HeaderMap>>),
    /// Not kept: to be sent once.
    Once(OutBody),
}

/// Keeps a body if it is small enough; tells how long its caller was waited for.
pub async fn keep(mut body: Inflow<Incoming>, limit: usize) -> Result<(Kept, Duration), Fault> {
    if body.is_end_stream() {
        return Ok((Kept::Whole(Bytes::new(), None), Duration::ZERO));
    }
    if body.size_hint().lower() > limit as u64 {
        let body = OutBody::streamed(Queue::default(), body);
        return Ok((Kept::Once(body), Duration::ZERO));
    }
    let mut read = Queue::default();
    let mut length = 0;
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
            return Ok((Kept::Once(OutBody::streamed(read, body)), waited));
        }
        // The announced length is there: the end needs no further turn.
        if body.is_end_stream() {
            break;
        }
    }
    Ok((Kept::Whole(joined(read, length), trailers), body.waited()))
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
