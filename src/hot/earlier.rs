//! `previous_response_id`: a response that Shunt made has a name that its provider does not know, so
//! the call that goes on from it is sent with the provider's own.
//!
//! Promises: a call that names no response of Shunt's goes on untouched and asks nobody; another
//! caller's name is not translated.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use tokio::time::timeout;

use super::demote::PATIENCE;
use super::error::Code;
use super::intake::Kept;
use crate::cold::background::job_id;
use crate::cold::door::Door;
use crate::cold::job::{JobId, Owner};
use crate::cold::responses::AtProvider;
use crate::upstream::peek::Peek;
use crate::upstream::scan::replaced;

/// A body with the provider's name in it, and what is to be read of it; the headers tell its length.
/// `None`: there is nothing to translate.
pub(super) async fn translated(
    door: &Door,
    owner: Owner,
    headers: &mut HeaderMap,
    kept: &Kept,
    peek: &Peek,
) -> Result<Option<(Kept, Peek)>, (Code, String)> {
    let (Kept::Whole(body, trailers), Some(at)) = (kept, &peek.earlier_at) else {
        return Ok(None);
    };
    let Some(id) = named(&body[at.clone()]) else {
        return Ok(None);
    };
    let asked = door.at_provider(owner, id.clone());
    let told = match timeout(PATIENCE, asked).await {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => return Err((Code::Overloaded, error.to_string())),
        Err(_) => {
            let silent = "the job store does not say what `previous_response_id` stands for; send the \
                          call again later";
            return Err((Code::Overloaded, silent.into()));
        }
    };
    match told {
        AtProvider::Unknown => Ok(None),
        AtProvider::Nothing(status) => Err((
            Code::BadRequest,
            format!(
                "`previous_response_id` names a response that has no answer: its job {id} is {}; \
                 poll it until it is completed",
                status.as_str()
            ),
        )),
        AtProvider::Named(name) => {
            let body = with(body, at, &name);
            if headers.contains_key(CONTENT_LENGTH) {
                headers.insert(CONTENT_LENGTH, body.len().into());
            }
            let peek = Peek::read(&body).map_err(|why| (Code::BadRequest, why))?;
            Ok(Some((Kept::Whole(body, trailers.clone()), peek)))
        }
    }
}

/// The job that a JSON string names, if it may be one.
pub fn named(value: &[u8]) -> Option<JobId> {
    let name: &str = serde_json::from_slice(value).ok()?;
    job_id(name)
}

/// The body with another string there.
pub fn with(body: &[u8], at: &Range<usize>, name: &str) -> Bytes {
    let quoted = serde_json::Value::from(name).to_string();
    replaced(body, [(at.clone(), quoted.as_bytes())]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_changes_and_only_a_job_s_name_is_one() {
        let name = format!("resp_{}", "0".repeat(32));
        let body = format!(r#"{{"previous_response_id" : "{name}", "model":"m"}}"#);
        let at = Peek::read(body.as_bytes()).unwrap().earlier_at.unwrap();
        assert!(named(&body.as_bytes()[at.clone()]).is_some());
        let made = with(body.as_bytes(), &at, "resp_\"x");
        assert_eq!(
            made,
            r#"{"previous_response_id" : "resp_\"x", "model":"m"}"#
        );
        assert_eq!(named(br#""resp_68a1f""#), None);
        assert_eq!(named(b"7"), None);
    }
}
