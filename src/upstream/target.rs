//! Where a route's calls go: providers with weights and models.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request};

use super::body::OutBody;
use super::provider::Provider;
use crate::config::TargetTable;
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
        Ok(Self {
            meter: TargetMeter::new(meter, route, &label),
            tag: HeaderValue::from_str(&label)
                .map_err(|_| format!("`{label}` holds characters that no header can carry"))?,
            provider,
            label,
            weight: table.weight,
            model: table
                .model
                .as_ref()
                .map(|model| serde_json::Value::from(model.as_str()).to_string()),
        })
    }

    /// The request for this target, but for its address, which depends on the connection.
    pub fn request(&self, call: &Call, body: Option<OutBody>) -> Request<OutBody> {
        let mut request = Request::new(body.unwrap_or_else(|| OutBody::Kept {
            data: self.body(call),
            trailers: call.trailers.clone(),
        }));
        *request.method_mut() = call.method.clone();
        *request.headers_mut() = call.headers.clone();
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
        let mut body = BytesMut::with_capacity(call.body.len() + model.len());
        body.extend_from_slice(&call.body[..range.start]);
        body.extend_from_slice(model.as_bytes());
        body.extend_from_slice(&call.body[range.end..]);
        body.freeze()
    }
}

/// The targets of a route.
pub struct Targets {
    all: Vec<Arc<Target>>,
    weights: u32,
}

impl Targets {
    /// At least one target.
    pub fn new(all: Vec<Arc<Target>>) -> Self {
        let weights = all.iter().map(|target| target.weight).sum();
        Self { all, weights }
    }

    /// Every target.
    pub fn all(&self) -> &[Arc<Target>] {
        &self.all
    }

    /// A target for a first attempt: by weight.
    pub fn first(&self) -> &Arc<Target> {
        if self.all.len() > 1 && self.weights > 0 {
            let mut draw = rand::random_range(0..self.weights);
            for target in &self.all {
                if draw < target.weight {
                    return target;
                }
                draw -= target.weight;
            }
        }
        &self.all[0]
    }

    /// A target for a further attempt: one that was not tried where there is one, else by weight.
    pub fn another(&self, tried: &[Arc<Target>]) -> &Arc<Target> {
        let fresh = |target: &&Arc<Target>| !tried.iter().any(|one| Arc::ptr_eq(one, target));
        self.all
            .iter()
            .filter(fresh)
            .max_by_key(|target| target.weight)
            .unwrap_or_else(|| self.first())
    }
}
