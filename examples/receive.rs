//! Receives callbacks and verifies them: docs/callbacks.md.

use axum::{Router, body::Bytes, http::HeaderMap, http::StatusCode, routing::post};
use standardwebhooks::Webhook;

async fn hook(headers: HeaderMap, body: Bytes) -> StatusCode {
    let secret = std::env::var("SHUNT_CALLBACK_SECRET").expect("the gateway's secret");
    let hook = Webhook::new(&secret).expect("whsec_ and base64");
    // The exact bytes: JSON that was parsed and written again has another signature.
    if hook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let event: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
    println!("{} {}", event["type"], event["data"]["id"]);
    StatusCode::NO_CONTENT
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).expect("the address to listen on");
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, Router::new().route("/done", post(hook))).await
}
