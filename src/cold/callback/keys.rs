//! The page with the keys that receivers verify `v1a` signatures with.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CACHE_CONTROL;
use axum::routing::get;
use serde_json::{Value, json};

use super::sign::Signer;

/// Where the page is on the public listener.
pub const PATH: &str = "/.well-known/shunt-callback-keys";

/// The page. Without a signing key its list is empty.
pub fn router(signer: Option<&Arc<Signer>>) -> Router {
    let page = page(signer);
    let show = async move || ([(CACHE_CONTROL, "public, max-age=300")], axum::Json(page));
    Router::new().route(PATH, get(show))
}

fn page(signer: Option<&Arc<Signer>>) -> Value {
    let keys = signer
        .map(|signer| signer.public_keys())
        .unwrap_or_default();
    let one = |key: super::sign::PublicKey| json!({"id": key.id, "signature": "v1a", "algorithm": "ed25519", "key": key.key});
    let data: Vec<Value> = keys.into_iter().map(one).collect();
    json!({"object": "list", "data": data})
}
