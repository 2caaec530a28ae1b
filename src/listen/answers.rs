//! Who answers what comes over a listener's connections.

use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use crate::hot::{AnswerBody, Worker};

/// Answers requests.
pub trait Answers: Send + Sync + 'static {
    /// What its answers carry.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send;

    /// Answers one. Dropping the future gives it up.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl Answers for Worker {
    type Body = AnswerBody;

    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<AnswerBody>> + Send {
        self.serve(request)
    }
}
