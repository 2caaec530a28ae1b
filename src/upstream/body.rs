//! What is sent to a provider: bytes that were kept, or the caller's body as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::inflow::{Fate, Fault, Inflow};
use super::queue::Queue;

/// A request body.
#[derive(Debug)]
pub enum OutBody {
    /// Kept bytes and trailers.
    Kept {
        /// What is left to send; empty means nothing.
        data: Bytes,
        /// Sent after it.
        trailers: Option<Box<HeaderMap>>,
    },
    /// The caller's body, frame by frame: what was read of it already, and the rest.
    Streamed(Box<Streamed>),
}

/// A body that is not kept.
#[derive(Debug)]
pub struct Streamed {
    read: Queue<Bytes>,
    rest: Inflow<Incoming>,
}

impl OutBody {
    /// A body that is passed on as it comes, after what was read of it.
    pub fn streamed(read: Queue<Bytes>, rest: Inflow<Incoming>) -> Self {
        Self::Streamed(Box::new(Streamed { read, rest }))
    }

    /// What will have become of the caller's body, where it is passed on as it comes.
    pub fn fate(&mut self) -> Option<Fate> {
        match self {
            Self::Kept { .. } => None,
            Self::Streamed(body) => Some(body.rest.fate()),
        }
    }

    /// A kept body without trailers.
    pub fn kept(data: Bytes) -> Self {
        Self::Kept {
            data,
            trailers: None,
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.get_mut() {
            Self::Kept { data, trailers } => {
                if !data.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))));
                }
                Poll::Ready(trailers.take().map(|map| Ok(Frame::trailers(*map))))
            }
            Self::Streamed(body) => match body.read.pop() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                None => Pin::new(&mut body.rest).poll_frame(context),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept { data, trailers } => data.is_empty() && trailers.is_none(),
            Self::Streamed(body) => body.read.is_empty() && body.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // With trailers the length stays open, so that HTTP/1.1 frames it in chunks.
            Self::Kept {
                trailers: Some(_), ..
            } => SizeHint::default(),
            Self::Kept { data, .. } => SizeHint::with_exact(data.len() as u64),
            Self::Streamed(body) => {
                let read: usize = body.read.iter().map(Bytes::len).sum();
                match body.rest.size_hint().exact() {
                    Some(left) => SizeHint::with_exact(left + read as u64),
                    None => SizeHint::default(),
                }
            }
        }
    }
}
