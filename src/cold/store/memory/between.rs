//! What is between a gateway and the store in memory: the news of the others, and faults.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::GatewayId;
use crate::cold::store::{News, NewsFeed, StoreError};
use crate::tasks::Tasks;

/// News that wait to be heard by one gateway.
const HELD: usize = 10_000;

/// How long a request to a store that cannot be reached takes to fail.
const SILENCE: Duration = Duration::from_millis(500);

/// How news come.
#[derive(Clone)]
pub struct Post {
    /// How long they take.
    pub lag: Duration,
    /// Share of news that are lost; `Missed` comes in their place, a second later.
    pub loss: f64,
    /// Who carries them.
    pub tasks: Tasks,
    /// Which are lost.
    pub seed: u64,
}

/// The gateways that hear news.
#[derive(Default)]
pub(super) struct Exchange(Mutex<Vec<Ear>>);

struct Ear {
    gateway: GatewayId,
    to: mpsc::Sender<News>,
    post: Post,
    random: StdRng,
    reach: Reach,
}

impl Exchange {
    pub fn join(&self, gateway: GatewayId, post: &Post, reach: &Reach) -> NewsFeed {
        let (to, feed) = mpsc::channel(HELD);
        let mut ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ears.push(Ear {
            gateway,
            to,
            post: post.clone(),
            random: StdRng::seed_from_u64(post.seed),
            reach: reach.clone(),
        });
        feed
    }

    /// Tells what a gateway wrote to the others.
    pub fn tell(&self, from: GatewayId, news: &[News]) {
        let mut ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ears.retain(|ear| !ear.to.is_closed());
        for ear in ears.iter_mut().filter(|ear| ear.gateway != from) {
            for one in news {
                ear.carry(one.clone());
            }
        }
    }
}

impl Ear {
    fn carry(&mut self, news: News) {
        let lost = self.reach.is_cut() || self.random.random_bool(self.post.loss);
        let (wait, news) = if lost {
            (self.post.lag + Duration::from_secs(1), News::Missed)
        } else {
            (self.post.lag, news)
        };
        let (to, reach) = (self.to.clone(), self.reach.clone());
        self.post.tasks.spawn(async move {
            sleep(wait).await;
            while reach.is_cut() {
                sleep(SILENCE).await;
            }
            let _ = to.send(news).await;
        });
    }
}

/// Whether a gateway reaches the store.
#[derive(Clone, Default)]
pub struct Reach(Arc<AtomicBool>);

impl Reach {
    /// Cuts it off, or ends that.
    pub fn cut(&self, cut: bool) {
        self.0.store(cut, Ordering::Relaxed);
    }

    fn is_cut(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails after a while if the store cannot be reached now.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        if self.is_cut() {
            sleep(SILENCE).await;
            return Err(StoreError::Unavailable("it is cut off".into()));
        }
        Ok(())
    }
}
