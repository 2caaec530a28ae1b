//! Sends one call and waits for the head of its answer.
//!
//! Promises: it is sent at most once; what is kept while it waits is kept once.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::OutBody;
use super::connect::ConnectError;
use super::incoming::Cut;
use super::part::Part;
use super::pool::{Lease, Pool, SendError};
use super::target::Target;
use super::verdict::Broken;

/// Connections that turned out closed before a call was given up.
const STALE: usize = 3;

/// Sends a request on an open connection; one that turns out closed before anything was sent is
/// replaced without a word.
pub(super) fn send(
    target: Arc<Target>,
    pool: Arc<Pool>,
    mut request: Request<OutBody>,
    connect: Duration,
    mut part: Option<Part>,
) -> impl Future<Output = Result<(Response<Incoming>, Lease), Broken>> {
    let path_of = |request: &Request<OutBody>| match request.uri().path_and_query() {
        Some(path) => path.clone(),
        None => PathAndQuery::from_static("/"),
    };
    // A block and no `async fn`: that would keep what it is given twice.
    async move {
        *request.uri_mut() = target.provider.path(&path_of(&request))?.into();
        let mut stale = 0;
        loop {
            let mut lease = pool.checkout(connect).await?;
            // No path is kept while the answer is waited for: it is a piece of the buffer that the
            // caller's head was read into, and would keep all of it.
            let path = path_of(&request);
            *request.uri_mut() = target.provider.uri(path, lease.is_http2())?;
            if lease.is_http2() {
                request.headers_mut().remove(http::header::HOST);
            }
            drop(part.take());
            match lease.send(request).await {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(Broken::Switched);
                }
                Ok(response) => return Ok((response, lease)),
                Err(SendError::NotSent(again)) if stale < STALE => {
                    stale += 1;
                    request = *again;
                }
                Err(SendError::NotSent(_)) => {
                    let why = "connections close before anything is sent".to_owned();
                    return Err(ConnectError::Failed(why).into());
                }
                Err(SendError::Broken(error)) => return Err(Cut::from(error).into()),
            }
        }
    }
}
