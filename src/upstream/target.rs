//! Where a route's calls go: providers with weights and models.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request};
use tokio::time::Instant;

use super::body::OutBody;
use super::health::{Admission, Health};
use super::load::Load;
use super::permits::{Permit, Permits};
use super::provider::Provider;
use super::scan::{replaced, text_of};
use crate::config::TargetTable;
use crate::latency::Kind;
use crate::meter::{Meter, TargetMeter};

/// A call as it is sent: to one target, or again to another.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query, before a provider's own prefix.
    pub path: PathAndQuery,
    /// End-to-end headers of the caller, without Shunt's own.
    pub headers: HeaderMap,
    /// The body, kept so that it can be sent again.
    pub body: Bytes,
    /// The caller's trailers.
    pub trailers: Option<Box<HeaderMap>>,
    /// Where in `body` the value of `model` stands, quotes included.
    pub model: Option<Range<usize>>,
    /// Whether the caller asked for a stream.
    pub streamed: bool,
    /// What it is like.
    pub kind: Kind,
}

/// One of a route's targets.
pub struct Target {
    /// Its provider.
    pub provider: Arc<Provider>,
    /// Its name in metrics and answers.
    pub label: String,
    /// The same, as a header's value.
    pub tag: HeaderValue,
    /// What it is measured with.
    pub meter: TargetMeter,
    /// Whether calls are sent to it.
    pub health: Health,
    /// How slow it is just now.
    pub load: Load,
    /// Its places; `None`: it has no limit.
    pub permits: Option<Arc<Permits>>,
    weight: u32,
    /// The model it is asked for, as a JSON string.
    model: Option<String>,
}

impl Target {
    /// A target of `route`. `label` is unique within it.
    ///
    /// # Errors
    /// A sentence: no header can carry the label.
    pub fn new(
        provider: Arc<Provider>,
        table: &TargetTable,
        label: String,
        meter: &Arc<Meter>,
        route: &str,
    ) -> Result<Self, String> {
        let model = asked(table);
        Ok(Self {
            meter: TargetMeter::new(meter, route, &label),
            tag: HeaderValue::from_str(&label)
                .map_err(|_| format!("`{label}` holds characters that no header can carry"))?,
            permits: Permits::new(&provider.settings.concurrency),
            provider,
            label,
            health: Health::default(),
            load: Load::default(),
            weight: table.weight,
            model,
        })
    }

    /// Whether this is what such an entry makes, at the same provider.
    pub fn is_for(&self, table: &TargetTable) -> bool {
        self.weight == table.weight && self.model == asked(table)
    }

    /// Whether calls are sent to it.
    pub fn is_open(&self, now: Instant) -> bool {
        self.health.admission(now) == Admission::Open
    }

    /// Tells the metrics whether calls are sent to it, how many it may get, and how many wait.
    pub fn show(&self, now: Instant) {
        self.meter.healthy.set(self.is_open(now));
        if let Some(permits) = &self.permits {
            self.meter.places(permits.limit(), permits.waiting());
        }
    }

    /// Leave to call it; `None`: all its places are taken.
    pub fn permit(&self, now: Instant) -> Option<Permit> {
        match &self.permits {
            None => Some(Permit::default()),
            Some(permits) => permits.take(now),
        }
    }

    /// Places that jobs may take there.
    pub fn spare(&self) -> usize {
        let permits = self.permits.as_ref();
        permits.map_or(usize::MAX, |permits| permits.spare())
    }

    /// The model that it is asked for in place of the caller's.
    pub fn model(&self) -> Option<String> {
        text_of(self.model.as_ref()?.as_bytes())
    }

    /// Its share of calls.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// What one more call would wait there, for its weight.
    pub fn cost(&self, now: Instant) -> f64 {
        self.load.cost(self.meter.running(), now) / f64::from(self.weight.max(1))
    }

    /// The request for this target, but for its address, which depends on the connection.
    pub fn request(&self, call: &Call, body: Option<OutBody>) -> Request<OutBody> {
        self.with(call.headers.clone(), call, body)
    }

    /// The same with the call's headers where they are there to be given away.
    pub fn with(&self, headers: HeaderMap, call: &Call, body: Option<OutBody>) -> Request<OutBody> {
        let mut request = Request::new(body.unwrap_or_else(|| OutBody::Kept {
            data: self.body(call),
            trailers: call.trailers.clone(),
        }));
        *request.method_mut() = call.method.clone();
        *request.headers_mut() = headers;
        self.provider.address(request.headers_mut());
        let length = http_body::Body::size_hint(request.body()).exact();
        // A length that the caller gave stands unless the model was exchanged.
        if let Some(length) = length
            && length != call.body.len() as u64
            && request.headers().contains_key(http::header::CONTENT_LENGTH)
        {
            request
                .headers_mut()
                .insert(http::header::CONTENT_LENGTH, length.into());
        }
        request
    }

    fn body(&self, call: &Call) -> Bytes {
        let (Some(model), Some(range)) = (&self.model, &call.model) else {
            return call.body.clone();
        };
        replaced(&call.body, [(range.clone(), model.as_bytes())]).into()
    }
}

/// The model that an entry asks for, as a JSON string.
fn asked(table: &TargetTable) -> Option<String> {
    let model = table.model.as_deref()?;
    Some(serde_json::Value::from(model).to_string())
}
