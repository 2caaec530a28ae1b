//! The body of a provider's answer.
//!
//! Promises: it ends without an error only where the provider ended it. hyper takes a stream's reset
//! with `NO_ERROR` for an end: it is one of an early refusal (RFC 9113 8.1), never of a good answer,
//! whose caller could not see that the rest is missing. An answer whose length has come is over, though the
//! end of its stream comes in a frame of its own, as many servers send it: a caller that knows the length
//! asks for no more.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::Version;
use http::header::TRAILER;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Why there is no more of it.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The connection or the stream broke.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The stream was given up as if it were over.
    #[error("the provider gave its stream up before the end of its answer")]
    Early,
}

impl Cut {
    /// Whether the provider refused the stream unseen, alone or with all that came after the last it saw
    /// (RFC 9113 8.7, 6.8): it may be sent again.
    pub fn is_refusal(&self) -> bool {
        let Self::Connection(error) = self else {
            return false;
        };
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        // To streams that a GOAWAY covers, h2 tells nothing of it.
        cause.is_some_and(|cause: &h2::Error| {
            cause.reason() == Some(Reason::REFUSED_STREAM)
                || cause.is_go_away() && cause.is_remote()
        })
    }
}

/// Whether nothing is left of a body, as a server sees it that may ask no more.
pub fn is_over(body: &impl Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

/// A body as it comes.
pub struct Inbound {
    body: Incoming,
    /// An end has to be said.
    strict: bool,
    /// Lines were announced that follow it.
    trailers: bool,
}

impl Inbound {
    /// The body of an answer with this head.
    pub fn new(body: Incoming, head: &Parts) -> Self {
        // Over HTTP/1.1 hyper itself looks for the end.
        let strict = head.version == Version::HTTP_2 && head.status.is_success();
        Self {
            body,
            strict,
            trailers: head.headers.contains_key(TRAILER),
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match next {
            None if self.strict && !is_over(&self.body) => Some(Err(Cut::Early)),
            next => next.map(|frame| frame.map_err(Cut::from)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() || !self.trailers && is_over(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
