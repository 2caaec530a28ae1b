//! What a call is told that no route takes: first what its sender can do, then what who runs the
//! gateway can.
//!
//! Promises: names no route; names providers only where anyone may call them.

use http::HeaderMap;

use super::error::{self, Code};
use super::gateway::State;
use super::ready::Refusal;
use crate::nearest::nearest;

/// Providers that are named at most.
const NAMED: usize = 3;

/// What the paths of SDKs go on with after `/v1/`, where the base URL has none.
const APIS: [&str; 12] = [
    "audio",
    "batches",
    "chat",
    "completions",
    "embeddings",
    "files",
    "images",
    "messages",
    "models",
    "moderations",
    "rerank",
    "responses",
];

/// What no route takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stray<'a> {
    /// Its path, with its headers.
    Path,
    /// The path would do, and it has no model.
    NoModel,
    /// The same, and its model is not read: its type is not JSON.
    NotJson,
    /// The path would do with another model.
    Model(&'a str),
}

impl<'a> Stray<'a> {
    /// Of a call whose body was read.
    pub fn of(model: Option<&'a str>, json: bool) -> Self {
        match model {
            Some(model) => Self::Model(model),
            None if json => Self::NoModel,
            None => Self::NotJson,
        }
    }
}

/// Paths of both APIs that are mostly meant.
const KNOWN: [&str; 5] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/completions",
];

/// So many letters apart a path is taken for a mistyped one of those; longer ones are not compared.
const MISTYPED: usize = 4;
const LONGEST: usize = 48;

/// Pages that are not for callers.
const OPERATORS: [&str; 4] = ["/metrics", "/healthz", "/readyz", "/api/"];

/// The refusal.
pub(super) fn no_route(
    state: &State,
    path: &str,
    headers: &HeaderMap,
    stray: Stray<'_>,
) -> Refusal {
    let message = match stray {
        Stray::Path => strange_path(state, path, headers),
        Stray::NoModel => format!(
            "no route takes {path} without a `model`; send a `model` in the body; who runs the \
             gateway can add a route without one to [[routes]]"
        ),
        Stray::NotJson => format!(
            "no route takes {path} without a `model`, and the body's is read only where it is JSON; \
             send Content-Type: application/json; who runs the gateway can add a route without one \
             to [[routes]]"
        ),
        Stray::Model(model) => format!(
            "no route takes {path} with the model `{model}`; send another `model`; who runs the \
             gateway can add a route for it to [[routes]]"
        ),
    };
    Refusal::early(error::guess(path), Code::NoRoute, message)
}

fn strange_path(state: &State, path: &str, headers: &HeaderMap) -> String {
    let api = path.trim_start_matches('/').split('/').next();
    let versioned = format!("/v1{path}");
    let taken = || state.table.candidates(&versioned, headers).next().is_some();
    if api.is_some_and(|api| APIS.contains(&api)) && taken() {
        return format!("no route takes {path}; did you mean {versioned}?");
    }
    if OPERATORS.iter().any(|page| path.starts_with(page)) {
        return format!(
            "no route takes {path}; operators' pages are on the admin listener (`listen.admin`)"
        );
    }
    let takes = |path: &&str| state.table.candidates(path, headers).next().is_some();
    let known = KNOWN.into_iter().filter(|_| path.len() <= LONGEST);
    if let Some(known) = nearest(path, known.filter(takes), MISTYPED) {
        return format!("no route takes {path}; did you mean {known}?");
    }
    let names = state.table.providers().iter();
    let names: Vec<String> = names
        .take(NAMED)
        .map(|one| format!("/{}/…", one.name))
        .collect();
    // With keys it is nobody's business who answers for others.
    let such = if state.gate.is_some() || names.is_empty() {
        String::new()
    } else {
        format!(", such as {}", names.join(", "))
    };
    format!(
        "no route takes {path}; call another path, or begin it with a provider's name{such}; who runs \
         the gateway can add a route to [[routes]]"
    )
}
