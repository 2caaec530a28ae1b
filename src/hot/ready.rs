//! A call that is understood and has a route: all that the race and the hand-off need.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::budget::{Deadline, deadline};
use super::error::Code;
use super::gateway::State;
use super::headers::towards_the_provider;
use super::intake::{Asked, Kept};
use super::intent::Intent;
use super::record::Record;
use super::route::Route;
use super::safe::is_safe;
use super::scope::Membership;
use crate::cold::door::Door;
use crate::cold::recall::CallKey;
use crate::config::Dialect;
use crate::journal::timeline::Timeline;
use crate::meter::Said;
use crate::placed::boxed;
use crate::upstream::body::OutBody;
use crate::upstream::peek::Peek;
use crate::upstream::target::Call;

/// A call that is refused, and how that is counted.
pub(super) struct Refusal {
    pub dialect: Dialect,
    pub code: Code,
    pub message: String,
    pub record: Option<Record>,
}

impl Refusal {
    /// Of a call whose route is not known yet, or that is no call of its own.
    pub fn early(dialect: Dialect, code: Code, message: impl Into<String>) -> Self {
        Self {
            dialect,
            code,
            message: message.into(),
            record: None,
        }
    }

    /// Leaves it to be told, where nothing tells of its call yet.
    pub fn is_told(&mut self, timeline: Option<Timeline>) {
        match (&mut self.record, timeline) {
            (Some(record), Some(timeline)) => record.is_told(timeline, None),
            (None, Some(timeline)) => {
                timeline.refused(self.code.status().as_u16(), self.code.as_str());
            }
            (_, None) => {}
        }
    }

    /// Of a call whose route is known.
    pub fn of(route: &Route, record: Record, (code, message): (Code, String)) -> Self {
        Self {
            dialect: route.dialect,
            code,
            message,
            record: Some(record),
        }
    }
}

/// A call that is understood and has a route.
pub(super) struct Ready {
    pub route: Arc<Route>,
    pub record: Record,
    pub intent: Intent,
    pub deadline: Deadline,
    pub arrived: Instant,
    pub call: Call,
    pub body: Option<OutBody>,
    pub safe: bool,
    /// What was predicted of it, where its caller asked for a 202.
    pub said: Option<Said>,
    /// The caller's headers, where it asks for another protocol.
    pub switched: Option<HeaderMap>,
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
    /// Its `Idempotency-Key`.
    pub key: Option<CallKey>,
    /// Its pipeline.
    pub scope: Option<Arc<Membership>>,
}

impl Ready {
    /// Refuses the call.
    pub fn refuse(self: Box<Self>, code: Code, message: String) -> Refusal {
        Refusal::of(&self.route, self.record, (code, message))
    }
}

/// When a call must have answered, and whether it may be sent twice. `path` is that of its targets.
pub(super) fn terms(
    state: &State,
    route: &Route,
    method: &Method,
    path: &str,
    kept: &Kept,
    peek: &Peek,
    intent: &Intent,
) -> (Deadline, bool) {
    let most = state.limits.body.bytes();
    let demotable = matches!(kept, Kept::Whole(data, _) if data.len() <= most);
    let (budget, over) = (&route.budget, &route.over_budget);
    let deadline = deadline(budget, over, intent, peek.stream, demotable);
    let twice = || is_safe(route.hedge.safe, route.dialect, method, path, peek);
    (deadline, matches!(kept, Kept::Whole(..)) && twice())
}

/// Puts together what the race and the hand-off need.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one call, each used once"
)]
pub(super) fn prepare(
    door: &Door,
    state: &State,
    asked: &mut Asked,
    route: Arc<Route>,
    record: Record,
    kept: Kept,
    peek: Peek,
    intent: Intent,
    arrived: Instant,
) -> Result<Box<Ready>, Refusal> {
    let parts = &mut asked.parts;
    let bad = |message, record| Refusal::of(&route, record, (Code::BadRequest, message));
    if let Some(url) = &intent.callback
        && let Err(why) = door.check_callback(url)
    {
        return Err(bad(why, record));
    }
    let whole = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let inner = route.inner_path(whole);
    let path = match parts.uri.path_and_query() {
        Some(path) if path.as_str() == inner => Ok(path.clone()),
        _ => inner.parse(),
    };
    let path: PathAndQuery = match path {
        Ok(path) => path,
        Err(error) => return Err(bad(format!("the path is not valid: {error}"), record)),
    };
    let method = &parts.method;
    let (deadline, safe) = terms(state, &route, method, path.path(), &kept, &peek, &intent);
    let (data, trailers, once) = match kept {
        Kept::Whole(data, trailers) => (data, trailers, None),
        Kept::Once(body) => (Bytes::new(), None, Some(body)),
    };
    let switched = asked.is_upgrade.then(|| parts.headers.clone());
    let mut headers = std::mem::take(&mut parts.headers);
    towards_the_provider(&mut headers, route.dialect != Dialect::Plain);
    Ok(boxed(|| Ready {
        call: Call {
            method: std::mem::take(&mut parts.method),
            path,
            headers,
            kind: peek.kind(route.dialect, data.len()),
            body: data,
            trailers,
            model: peek.model_at,
            streamed: peek.stream,
        },
        upgrade: parts.extensions.remove(),
        switched,
        body: once,
        safe,
        said: None,
        deadline,
        intent,
        record,
        route,
        arrived,
        key: None,
        scope: None,
    }))
}
