//! The demo's callback receiver: verifies each signature and counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

use crate::cold::callback::Signer;
use crate::tasks::Tasks;

/// What arrived.
#[derive(Default)]
pub struct Arrived {
    /// Callbacks whose signature is right.
    pub verified: AtomicU64,
    /// Others.
    pub refused: AtomicU64,
}

struct Receiver {
    signer: Signer,
    arrived: Arc<Arrived>,
}

/// Starts a receiver on a free port.
///
/// # Errors
/// No port is free.
pub async fn start(signer: Signer, tasks: &Tasks) -> anyhow::Result<(SocketAddr, Arc<Arrived>)> {
    let arrived = Arc::<Arrived>::default();
    let receiver = Arc::new(Receiver {
        signer,
        arrived: arrived.clone(),
    });
    let router = Router::new()
        .route("/hook", post(take))
        .with_state(receiver);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    Ok((address, arrived))
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let timestamp = text("webhook-timestamp").and_then(|time| time.parse().ok());
    let (Some(id), Some(timestamp), Some(signature)) =
        (text("webhook-id"), timestamp, text("webhook-signature"))
    else {
        receiver.arrived.refused.fetch_add(1, Ordering::Relaxed);
        return StatusCode::BAD_REQUEST;
    };
    if receiver.signer.sign(id, timestamp, &body) == signature {
        receiver.arrived.verified.fetch_add(1, Ordering::Relaxed);
        StatusCode::NO_CONTENT
    } else {
        receiver.arrived.refused.fetch_add(1, Ordering::Relaxed);
        StatusCode::UNAUTHORIZED
    }
}
