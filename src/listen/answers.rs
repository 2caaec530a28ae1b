//! Who answers what comes over a listener's connections.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use crate::hot::{AnswerBody, Worker};

/// Answers requests.
pub trait Answers: Send + Sync + 'static {
    /// What its answers carry.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send;

    /// Answers one. Dropping the future gives it up. It is made in its box: a connection keeps room for
    /// it as long as it lives, and needs it only until the head of an answer.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Pin<Box<impl Future<Output = Response<Self::Body>> + Send + 'static>>;
}

impl Answers for Worker {
    type Body = AnswerBody;

    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Pin<Box<impl Future<Output = Response<AnswerBody>> + Send + 'static>> {
        self.serve(request)
    }
}
