//! Delivers what is due, as long as the process runs.
//!
//! Promises: a delivery survives a restart under the same `webhook-id`; at most `concurrency` run
//! or are held at once, and of them only some to one receiver; what its receiver cannot take now
//! is put off and not counted; when it is cancelled, none is left behind.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex, Notify};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::Ready;
use super::endpoints::{Contact, EndpointSettings, Endpoints, Placed};
use super::guard::AddressGuard;
use super::send::Post;
use super::sign::Signer;
use crate::cold::job::{Job, UnixMillis};
use crate::cold::store::{Delivery, DeliveryOutcome, SharedStore};
use crate::journal::work;

/// Told of each delivery: `delivered`, `retried` or `dead`, and the age of the job's end.
pub trait Watch: Send + Sync + 'static {
    /// A delivery was made or given up.
    fn delivered(&self, result: &'static str, lag: Duration);

    /// A delivery was put off because its receiver rests.
    fn rested(&self);

    /// A delivery is sent to this host and port: its span, where it is traced.
    fn span(&self, _job: &Job, _to: (&str, u16)) -> Option<Box<work::Delivery>> {
        None
    }
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
    /// How each receiver is treated.
    pub endpoints: EndpointSettings,
}

impl DeliverySettings {
    /// The longest that a delivery is put off, from the end of its job or its replay. However short
    /// the schedule is, an outage of its receiver does not end what was hardly tried.
    pub(super) fn life(&self) -> Duration {
        let waits: Duration = self.schedule.iter().sum();
        let tries = u32::try_from(self.schedule.len() + 1).unwrap_or(u32::MAX);
        let tried = waits.mul_f64(1.0 + self.jitter) + self.timeout * tries;
        OUTAGE.max(tried + self.endpoints.rest_max)
    }
}

/// Delivers callbacks.
pub struct Deliverer {
    /// Where they are kept.
    pub store: SharedStore,
    /// Signs them.
    pub signer: Arc<Signer>,
    /// Judges where they go.
    pub guard: Arc<AddressGuard>,
    /// Sends them.
    pub sender: Arc<dyn Post>,
    /// How.
    pub settings: DeliverySettings,
    /// Counts them.
    pub watch: Arc<dyn Watch>,
    /// Held by whoever reads a long answer.
    pub long: Mutex<()>,
}

/// A receiver may be away, busy or at rest for so long before what waits for it is given up.
const OUTAGE: Duration = Duration::from_hours(24);

/// Longest pause between two looks at the store.
const PAUSE: Duration = Duration::from_millis(500);

/// A delivery that waits until so long from now; why, if its receiver rests.
type PutOff = (Box<Ready>, Duration, Option<String>);

/// What a delivery tells when it has ended.
type Told = (Contact, Duration);

/// What runs and what is held.
struct Round {
    endpoints: Endpoints<Box<Ready>>,
    running: JoinSet<Told>,
    /// Whom a running delivery goes to.
    origins: HashMap<Id, String>,
    back: Vec<PutOff>,
}

impl Deliverer {
    /// Delivers until it is cancelled; `wake` says that a job finished.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken, wake: Arc<Notify>) {
        let mut round = Round {
            endpoints: Endpoints::new(self.settings.endpoints.clone()),
            running: JoinSet::new(),
            origins: HashMap::new(),
            back: Vec::new(),
        };
        loop {
            while let Some(ended) = round.running.try_join_next_with_id() {
                self.ended(&mut round, ended);
            }
            for (origin, placed) in round.endpoints.tick(Instant::now()) {
                self.place(&mut round, &origin, placed);
            }
            let held = round.endpoints.held();
            let most = self.settings.concurrency;
            let room = most.saturating_sub(round.running.len() + held);
            // While some are held, the next are taken many at a time.
            let worth = room > 0 && (held == 0 || room >= most / 4);
            let taken = if worth {
                self.take(&mut round, room).await
            } else {
                0
            };
            self.give_back(&mut round).await;
            if taken > 0 && taken == room && !cancel.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = wake.notified() => {}
                Some(ended) = round.running.join_next_with_id(), if !round.running.is_empty() => {
                    self.ended(&mut round, ended);
                }
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        round.running.shutdown().await;
    }

    /// Takes up to `room` due deliveries and finds each its place.
    async fn take(self: &Arc<Self>, round: &mut Round, room: usize) -> usize {
        let now = UnixMillis::now();
        // Held for a moment, sent, and written down; after a crash it is due again.
        let until = now.plus(self.settings.timeout * 3);
        let due = self.store.claim_deliveries(room, now, until).await;
        let due = due.unwrap_or_default();
        let taken = due.len();
        let mut refused = Vec::new();
        for delivery in due {
            match Ready::new(delivery, &self.guard) {
                Ok(ready) => {
                    let origin = ready.address.origin();
                    let placed = round.endpoints.offer(&origin, ready, Instant::now());
                    self.place(round, &origin, placed);
                }
                Err((delivery, error)) => refused.push(self.dead(delivery, error)),
            }
        }
        join_all(refused).await;
        taken
    }

    fn place(self: &Arc<Self>, round: &mut Round, origin: &str, placed: Placed<Box<Ready>>) {
        match placed {
            Placed::Go(ready) => {
                let task = round.running.spawn(self.clone().deliver(ready));
                round.origins.insert(task.id(), origin.to_owned());
            }
            Placed::Held => {}
            Placed::Later(ready, wait, why) => round.back.push((ready, wait, why)),
        }
    }

    /// A delivery that panicked frees its place too.
    fn ended(self: &Arc<Self>, round: &mut Round, ended: Result<(Id, Told), JoinError>) {
        let (id, (contact, took)) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), (Contact::Nothing, Duration::ZERO)),
        };
        let Some(origin) = round.origins.remove(&id) else {
            return;
        };
        let now = Instant::now();
        for placed in round.endpoints.done(&origin, &contact, took, now) {
            self.place(round, &origin, placed);
        }
    }

    /// Writes down what is put off; what is older than its schedule is given up.
    async fn give_back(&self, round: &mut Round) {
        let now = UnixMillis::now();
        let life = self.settings.life();
        let one = async |(ready, wait, why): PutOff| {
            let delivery = ready.delivery;
            if delivery.since.plus(life) < now {
                let error = why.unwrap_or_else(|| "the receiver was busy all the time".into());
                return self.dead(delivery, error).await;
            }
            if why.is_some() {
                self.watch.rested();
            }
            let at = now.plus(wait);
            self.write(&delivery, DeliveryOutcome::PutOff { at, why })
                .await;
        };
        join_all(round.back.drain(..).map(one)).await;
    }

    async fn deliver(self: Arc<Self>, ready: Box<Ready>) -> Told {
        let began = Instant::now();
        let (outcome, contact) = self.attempt(&ready).await;
        let told = (contact, began.elapsed());
        let result = match &outcome {
            DeliveryOutcome::Delivered => Some("delivered"),
            DeliveryOutcome::Dead { .. } => Some("dead"),
            DeliveryOutcome::Later { .. } => Some("retried"),
            // Nothing was sent.
            DeliveryOutcome::PutOff { .. } => None,
        };
        if let Some(result) = result {
            self.count(&ready.delivery, result);
        }
        self.write(&ready.delivery, outcome).await;
        told
    }

    async fn dead(&self, delivery: Delivery, error: String) {
        self.count(&delivery, "dead");
        let at = UnixMillis::now();
        self.write(&delivery, DeliveryOutcome::Dead { at, error })
            .await;
    }

    fn count(&self, delivery: &Delivery, result: &'static str) {
        self.watch
            .delivered(result, delivery.since.until(UnixMillis::now()));
    }

    async fn write(&self, delivery: &Delivery, outcome: DeliveryOutcome) {
        // A store that cannot be written delivers again, under the same id.
        if let Err(error) = self.store.delivered(&delivery.webhook_id, outcome).await {
            tracing::warn!(%error, webhook_id = delivery.webhook_id, "delivery not written down");
        }
    }
}
