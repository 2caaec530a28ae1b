//! What a call gets while every target of its route is left alone: 202 and a job that waits for
//! one, where its caller can have that. Else it is sent all the same: a route is never without a
//! target.
//!
//! A few loads for calls that can become jobs, and nothing for others.

use http::Response;
use tokio::time::Instant;

use super::demote;
use super::error::Code;
use super::ready::{Ready, Refusal};
use super::relay::AnswerBody;
use super::route::Route;
use super::shed::seconds;
use crate::cold::door::Door;
use crate::cold::job::Reason;

/// Makes a call a job before it is sent in vain; gives it back where it is to run, also because no
/// job can be made of it.
pub(super) async fn at_once(
    door: &Door,
    ready: Box<Ready>,
) -> Result<Result<Response<AnswerBody>, Refusal>, Box<Ready>> {
    let closed = |route: &Route| route.targets.closed_for(Instant::now()).is_some();
    if !ready.deadline.then.is_job() || !closed(&ready.route) {
        return Err(ready);
    }
    demote::at_once(door, ready, Reason::ProviderDown).await
}

/// The code of a call that no target answered: it tells when one is tried again, if none is before.
pub(super) fn code(route: &Route) -> Code {
    match route.targets.closed_for(Instant::now()) {
        Some(wait) => Code::Away(seconds(wait)),
        None => Code::ProviderUnreachable,
    }
}
