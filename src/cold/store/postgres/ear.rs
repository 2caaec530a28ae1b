//! Hears what other gateways wrote: `LISTEN` on a connection of its own.
//!
//! Promises: a connection that was lost is made anew, and what may have been missed meanwhile is
//! told as `News::Missed`; where no notification arrives (PgBouncer in transaction mode, a system
//! that has none) that is told each second instead. It says something to itself now and then, so
//! that silence is told from deafness.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, interval, sleep, timeout};

use super::link::{Fault, Ground, Session, backoff};
use super::news::{CHANNEL, Heard, Teller, heard};
use crate::cold::store::News;

/// How often a deaf gateway looks at everything.
const LOOK: Duration = Duration::from_secs(1);

/// How often it speaks to itself, and how long it waits to hear that.
const PROBE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(5);

/// Notifications and news that may wait.
const WAITING: usize = 1_024;
pub(super) const FEED: usize = 4_096;

/// Hears.
pub(super) struct Ear {
    pub own: i64,
    pub ground: Arc<Ground>,
    pub teller: Teller,
    pub feed: mpsc::Sender<News>,
    /// The feed was full: something is missing.
    pub full: bool,
}

impl Ear {
    /// Hears until nobody takes the news any more.
    pub async fn run(mut self) {
        let mut failures = 0;
        while !self.feed.is_closed() {
            let began = Instant::now();
            self.listen().await;
            self.pass(News::Missed);
            failures = if began.elapsed() > PROBE {
                0
            } else {
                failures + 1
            };
            sleep(backoff(failures)).await;
        }
    }

    async fn connect(&self, payloads: mpsc::Sender<String>) -> Result<Arc<Session>, Fault> {
        let limit = self.ground.statement();
        self.ground.connect(limit, Some(payloads)).await
    }

    /// Hears over one connection until it is lost.
    async fn listen(&mut self) {
        let (payloads, mut inbox) = mpsc::channel(WAITING);
        let Ok(session) = self.connect(payloads).await else {
            return;
        };
        if session.tell(&format!("listen {CHANNEL}")).await.is_err() {
            // It has none: to look each second must do.
            self.look_for(PROBE).await;
            return;
        }
        // What was written before is not heard.
        self.pass(News::Missed);
        self.teller.probe();
        let (mut asked, mut answered) = (Instant::now(), false);
        let mut ticks = interval(LOOK);
        ticks.tick().await;
        loop {
            tokio::select! {
                payload = inbox.recv() => match payload {
                    None => return,
                    Some(payload) => match heard(self.own, &payload) {
                        Heard::Own => answered = true,
                        Heard::Others(news) => news.into_iter().for_each(|one| self.pass(one)),
                    },
                },
                _ = ticks.tick() => {
                    let (waited, open) = (asked.elapsed(), !self.feed.is_closed());
                    if !open || (answered && !session.is_open()) {
                        return;
                    }
                    if !answered || self.full {
                        self.pass(News::Missed);
                    }
                    if !answered && waited > SILENCE {
                        return self.look_for(PROBE).await;
                    }
                    if answered && waited > PROBE {
                        self.teller.probe();
                        (asked, answered) = (Instant::now(), false);
                    }
                }
            }
        }
    }

    /// Tells each second to look at everything.
    async fn look_for(&mut self, period: Duration) {
        let look = async {
            loop {
                self.pass(News::Missed);
                sleep(LOOK).await;
            }
        };
        let _ = timeout(period, look).await;
    }

    /// Never waits: who takes no news gets a summary later.
    fn pass(&mut self, news: News) {
        let all = news == News::Missed;
        match self.feed.try_send(news) {
            Err(TrySendError::Full(_)) => self.full = true,
            _ if all => self.full = false,
            _ => {}
        }
    }
}
