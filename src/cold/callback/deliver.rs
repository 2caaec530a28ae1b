//! Delivers what is due, as long as the process runs.
//!
//! Promises: a delivery survives a restart under the same `webhook-id`; at most `concurrency`
//! run at once; when it is cancelled, none is left behind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::guard::AddressGuard;
use super::send::{SendError, Sender};
use super::sign::Signer;
use super::{payload, schedule};
use crate::cold::job::UnixMillis;
use crate::cold::store::{Delivery, DeliveryOutcome, SharedStore};

/// Told of each delivery: `delivered`, `retried` or `dead`, and the age of the job's end.
pub trait Watch: Send + Sync + 'static {
    /// A delivery was made.
    fn delivered(&self, result: &'static str, lag: Duration);
}

/// How deliveries are made.
pub struct DeliverySettings {
    /// Waits before the second and each further delivery.
    pub schedule: Vec<Duration>,
    /// Share around each wait.
    pub jitter: f64,
    /// A longer answer is left out.
    pub inline_limit: usize,
    /// Deliveries at once.
    pub concurrency: usize,
    /// Longest time of one delivery.
    pub timeout: Duration,
}

/// Delivers callbacks.
pub struct Deliverer {
    /// Where they are kept.
    pub store: SharedStore,
    /// Signs them.
    pub signer: Signer,
    /// Judges where they go.
    pub guard: Arc<AddressGuard>,
    /// Sends them.
    pub sender: Sender,
    /// How.
    pub settings: DeliverySettings,
    /// Counts them.
    pub watch: Arc<dyn Watch>,
}

/// Longest pause between two looks at the store.
const PAUSE: Duration = Duration::from_millis(500);

impl Deliverer {
    /// Delivers until it is cancelled; `wake` says that a job finished.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken, wake: Arc<Notify>) {
        let mut running = JoinSet::new();
        loop {
            let free = self.settings.concurrency.saturating_sub(running.len());
            let mut taken = 0;
            if free > 0 {
                let now = UnixMillis::now();
                // Twice the limit of a delivery: after a crash it is due again.
                let until = now.plus(self.settings.timeout * 2);
                let due = self.store.claim_deliveries(free, now, until).await;
                let due = due.unwrap_or_default();
                taken = due.len();
                for delivery in due {
                    running.spawn(self.clone().deliver(delivery));
                }
            }
            if taken > 0 && taken == free {
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = wake.notified() => {}
                Some(_) = running.join_next(), if !running.is_empty() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        running.shutdown().await;
    }

    async fn deliver(self: Arc<Self>, delivery: Delivery) {
        let outcome = self.attempt(&delivery).await;
        let result = match &outcome {
            DeliveryOutcome::Delivered => "delivered",
            DeliveryOutcome::Later { .. } => "retried",
            DeliveryOutcome::Dead { .. } => "dead",
        };
        let ended = delivery.job.finished_at.unwrap_or_else(UnixMillis::now);
        self.watch.delivered(result, ended.until(UnixMillis::now()));
        // A store that cannot be written delivers again, under the same id.
        if let Err(error) = self.store.delivered(&delivery.webhook_id, outcome).await {
            tracing::warn!(%error, webhook_id = delivery.webhook_id, "delivery not written down");
        }
    }

    async fn attempt(&self, delivery: &Delivery) -> DeliveryOutcome {
        let Some(callback) = &delivery.job.callback else {
            return DeliveryOutcome::Dead {
                error: "the job has no callback".into(),
            };
        };
        // Judged again: `callbacks.allow` may have changed since the call was made.
        let address = match self.guard.check_url(&callback.url) {
            Ok(address) => address,
            Err(why) => {
                return DeliveryOutcome::Dead {
                    error: why.to_string(),
                };
            }
        };
        let inline = self.settings.inline_limit;
        let body = payload::body(&delivery.job, delivery.answer.as_ref(), inline);
        let headers = self.headers(&delivery.webhook_id, &body);
        let reply = self.sender.post(&address, headers, Bytes::from(body)).await;
        match reply {
            Ok(reply) if reply.status.is_success() => DeliveryOutcome::Delivered,
            Ok(reply) if reply.status == StatusCode::GONE => DeliveryOutcome::Dead {
                error: "the receiver answered 410: it wants no more".into(),
            },
            Ok(reply) => {
                let error = format!("the receiver answered {}", reply.status);
                self.later(callback.deliveries + 1, error, reply.retry_after)
            }
            Err(SendError::Inside(host)) => DeliveryOutcome::Dead {
                error: SendError::Inside(host).to_string(),
            },
            Err(error) => self.later(callback.deliveries + 1, error.to_string(), None),
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
        match schedule::next(
            &settings.schedule,
            done,
            settings.jitter,
            random,
            retry_after,
        ) {
            Some(wait) => DeliveryOutcome::Later {
                at: UnixMillis::now().plus(wait),
                error,
            },
            None => DeliveryOutcome::Dead { error },
        }
    }
}
