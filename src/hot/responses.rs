//! Calls for a response by its name: Shunt answers for those that it made itself.
//!
//! Promises: a call that cannot name one costs a look at the path's end; a name that is not of
//! Shunt's making goes on to the provider with its request untouched.

use std::sync::Arc;

use axum::body::Body;
use http::request::Parts;
use http::{Method, Request, Response, Uri};
use tower::ServiceExt as _;

use super::admission::stand_for;
use super::relay::AnswerBody;
use crate::auth::Key;
use crate::cold::responses::{NotOurs, page};

/// What Shunt is asked for where a call names a response; `None`: the call is the provider's.
pub(super) fn asked(call: &Parts, caller: Option<&Arc<Key>>) -> Option<Request<Body>> {
    let page = page(call.uri.path())?;
    let method = &call.method;
    if method != Method::GET && !(method == Method::POST && page.ends_with("/cancel")) {
        return None;
    }
    let uri: Uri = match call.uri.query() {
        Some(query) => format!("{page}?{query}").parse().ok()?,
        None => page.parse().ok()?,
    };
    let mut asked = Request::new(Body::empty());
    *asked.method_mut() = method.clone();
    *asked.uri_mut() = uri;
    *asked.headers_mut() = call.headers.clone();
    stand_for(caller, asked.headers_mut());
    Some(asked)
}

/// Shunt's answer; `None`: the name is not of Shunt's making.
pub(super) async fn told(api: &axum::Router, asked: Request<Body>) -> Option<Response<AnswerBody>> {
    let answer = api.clone().oneshot(asked).await;
    let answer = answer.unwrap_or_else(|never| match never {});
    let ours = answer.extensions().get::<NotOurs>().is_none();
    ours.then(|| answer.map(AnswerBody::Api))
}
