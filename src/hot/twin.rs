//! Whether a call may be one with another: by its `Idempotency-Key`, or as an SDK's own retry.

use http::Method;

use super::error::Code;
use super::ready::{Ready, Refusal};
use super::share::Terms;
use crate::cold::recall::CallKey;
use crate::config::Limits;

/// How a call is known again.
#[derive(Clone, Copy)]
pub(super) struct Twin {
    /// Its name and its fingerprint.
    pub key: CallKey,
    /// It joins another; else it is only joined.
    pub joins: bool,
    /// `key` or `retry`.
    pub by: &'static str,
    /// How its answer is kept.
    pub terms: Terms,
}

/// What tells a call's twins, if anything does. Only calls that do something: a GET may be sent
/// again as it is.
pub(super) fn twin(
    mut ready: Box<Ready>,
    limits: &Limits,
) -> Result<(Box<Ready>, Option<Twin>), Refusal> {
    let (key, retry) = (ready.intent.key.take(), ready.intent.retry);
    let join = ready.route.retries.join.get();
    let idle = ready.call.method == Method::GET || ready.call.method == Method::HEAD;
    if idle || (key.is_none() && (retry.is_none() || join.is_zero())) {
        return Ok((ready, None));
    }
    if ready.body.is_some() {
        if key.is_none() {
            return Ok((ready, None));
        }
        let message = format!(
            "a call with an Idempotency-Key is kept whole to know it again, and this one is \
                 longer than limits.body ({}); send it without the key, or raise the limit",
            limits.body
        );
        return Err(ready.refuse(Code::BodyTooLarge, message));
    }
    let owner = ready.record.owner(&ready.call.headers);
    let call = &ready.call;
    // By the route too: the same path at another provider is another call.
    let print = CallKey::print(
        call.method.as_str(),
        &ready.route.name,
        call.path.as_str(),
        &call.body,
    );
    // What SDKs might send again leaves room for what callers named.
    let share = if key.is_some() { 1 } else { 2 };
    let terms = Terms {
        join,
        all: limits.replay.bytes() / share,
        one: limits.hold.bytes(),
    };
    ready.key = key.map(|key| CallKey::named(owner, &key, print));
    let twin = match ready.key {
        Some(key) => Twin {
            key,
            joins: true,
            by: "key",
            terms,
        },
        None => Twin {
            key: CallKey::unnamed(owner, print),
            joins: retry.is_some_and(|retry| retry > 0),
            by: "retry",
            terms,
        },
    };
    Ok((ready, Some(twin)))
}
