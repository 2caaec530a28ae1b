//! One delivery: what is sent, and what its answer means.
//!
//! Promises: 2xx acknowledges; 410 and a forbidden address end it; anything else, redirects too,
//! is tried again by the schedule (Standard Webhooks 1.0.0).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::deliver::Deliverer;
use super::endpoints::Contact;
use super::guard::{Address, AddressGuard};
use super::schedule;
use super::send::{Reply, SendError};
use crate::cold::job::UnixMillis;
use crate::cold::store::{Delivery, DeliveryOutcome};
use crate::journal::context::TRACEPARENT;

/// Until a delivery is looked at again whose answer could not be read.
const UNREAD: Duration = Duration::from_secs(2);

/// A delivery whose address may be called.
pub(super) struct Ready {
    /// What is delivered.
    pub delivery: Delivery,
    /// Where.
    pub address: Address,
    /// Deliveries before this one.
    before: u32,
}

impl Ready {
    /// Judges the address again: `callbacks.allow` may have changed since the call was made.
    pub fn new(delivery: Delivery, guard: &AddressGuard) -> Result<Box<Self>, (Delivery, String)> {
        let Some(callback) = &delivery.job.callback else {
            return Err((delivery, "the job has no callback".into()));
        };
        let before = callback.deliveries;
        match guard.check_url(&callback.url) {
            Ok(address) => Ok(Box::new(Self {
                delivery,
                address,
                before,
            })),
            Err(why) => Err((delivery, why.to_string())),
        }
    }
}

impl Deliverer {
    /// Sends it, and says what comes of it and what it told of the receiver.
    pub(super) async fn attempt(&self, ready: &Ready) -> (DeliveryOutcome, Contact) {
        let Delivery {
            webhook_id, job, ..
        } = &ready.delivery;
        let body = match self.body(job).await {
            Ok(body) => body,
            Err(error) => return (self.unread(ready, error.to_string()), Contact::Nothing),
        };
        let mut headers = self.headers(webhook_id, &body);
        let to = (ready.address.host.as_str(), ready.address.port);
        let span = self.watch.span(job, to);
        if let Some(span) = &span {
            headers.insert(TRACEPARENT, span.header());
        }
        let reply = self.sender.post(&ready.address, headers, Bytes::from(body));
        let reply = reply.await;
        let contact = contact(&reply);
        if let Some(span) = span {
            let status = reply.as_ref().ok().map(|reply| reply.status.as_u16());
            span.ends(status, reply.as_ref().err().map(SendError::as_str));
        }
        let outcome = match reply {
            Ok(reply) if reply.status.is_success() => DeliveryOutcome::Delivered,
            Ok(reply) if reply.status == StatusCode::GONE => {
                dead("the receiver answered 410: it wants no more".into())
            }
            Ok(reply) => self.later(ready.before + 1, says(reply.status), reply.retry_after),
            Err(inside @ SendError::Inside(_)) => dead(inside.to_string()),
            Err(error) => self.later(ready.before + 1, error.to_string(), None),
        };
        (outcome, contact)
    }

    /// What it tells could not be read: nothing was sent, so nothing of its schedule is used up.
    fn unread(&self, ready: &Ready, error: String) -> DeliveryOutcome {
        let now = UnixMillis::now();
        if ready.delivery.since.plus(self.settings.life()) < now {
            return dead(error);
        }
        DeliveryOutcome::PutOff {
            at: now.plus(UNREAD),
            why: Some(error),
        }
    }

    fn headers(&self, id: &str, body: &[u8]) -> HeaderMap {
        let timestamp = UnixMillis::now().0 / 1_000;
        let signature = self.signer.sign(id, timestamp, body);
        let mut headers = HeaderMap::new();
        let values = [
            ("webhook-id", id),
            ("webhook-timestamp", &timestamp.to_string()),
            ("webhook-signature", &signature),
        ];
        for (name, value) in values {
            let value = HeaderValue::from_str(value);
            headers.insert(
                name,
                value.expect("ids, numbers and base64 are header text"),
            );
        }
        headers
    }

    fn later(&self, done: u32, error: String, retry_after: Option<Duration>) -> DeliveryOutcome {
        let settings = &self.settings;
        let random = rand::random::<f64>();
        let waits = &settings.schedule;
        match schedule::next(waits, done, settings.jitter, random, retry_after) {
            Some(wait) => DeliveryOutcome::Later {
                at: UnixMillis::now().plus(wait),
                error,
            },
            None => dead(error),
        }
    }
}

fn dead(error: String) -> DeliveryOutcome {
    DeliveryOutcome::Dead {
        at: UnixMillis::now(),
        error,
    }
}

/// Nothing of the answer's text: it could be that of a server which its caller may not read.
fn says(status: StatusCode) -> String {
    if status.is_redirection() {
        format!("the receiver answered {status}; redirects are not followed")
    } else {
        format!("the receiver answered {status}")
    }
}

fn contact(reply: &Result<Reply, SendError>) -> Contact {
    match reply {
        Ok(Reply {
            status,
            retry_after,
        }) => match status.as_u16() {
            429 | 502 | 504 => Contact::Slower(*retry_after, says(*status)),
            503 if retry_after.is_some() => Contact::Slower(*retry_after, says(*status)),
            500..=599 => Contact::Failing(says(*status)),
            _ => Contact::Well,
        },
        Err(SendError::Inside(_)) => Contact::Nothing,
        Err(error) => Contact::Failing(error.to_string()),
    }
}
