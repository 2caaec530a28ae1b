//! Providers that are down, or say when they want to be asked again: what becomes of calls that can
//! be jobs.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::caller;
use super::ledger::{End, Seen, Sent};
use super::plan::{LANES, Plan};
use super::provider::{Fate, Outage, Provider, connector};
use super::{PLAIN, Scene};
use crate::cold::job::{Reason, Status};
use crate::cold::store::memory::Row;
use crate::tasks::Tasks;

const SECOND: Duration = Duration::from_secs(1);

/// A gateway whose providers answer at once but for this outage of those whose numbers are given.
struct Trouble {
    scene: Scene,
    began: Instant,
    callers: Tasks,
}

impl Trouble {
    async fn open(ill: &[usize], lasts: Duration, says: Option<(u16, Option<u8>)>) -> Self {
        let began = Instant::now();
        let outage = Outage {
            from: began,
            until: began + lasts,
            says,
        };
        let scene = Scene::over(PLAIN, |ledger, tasks| {
            connector([0, 1, 2].map(|index| {
                let outage = ill.contains(&index).then_some(outage);
                let (ledger, tasks) = (ledger.clone(), tasks.clone());
                Provider::new(
                    index,
                    PLAIN.seed,
                    ledger,
                    tasks,
                    outage,
                    &[Fate::AnswersSoon],
                )
            }))
        });
        Self {
            scene: scene.await,
            began,
            callers: Tasks::new(),
        }
    }

    /// A call at such a time after the outage's beginning. `wait`: its caller takes a 202 after so
    /// many seconds; `None`: it takes none.
    async fn call(&self, call: u64, lane: &str, at: Duration, wait: Option<u64>) {
        sleep_until(self.began + at).await;
        let plan = Plan {
            call,
            // One account, whose rate limit is that of all.
            key: 0,
            lane: LANES.iter().find(|one| one.name == lane).unwrap(),
            streamed: false,
            http2: false,
            respond_async: wait.is_some(),
            wait,
            budget: None,
            patience: None,
            leaves: None,
            cancels: None,
        };
        self.callers
            .spawn(caller::call(self.scene.world.clone(), plan));
    }

    /// Waits for all callers. Gives the jobs, what was sent to providers and when after the
    /// beginning, and what callers saw.
    async fn end(self) -> (Vec<Row>, Vec<(Duration, Sent)>, Vec<Seen>) {
        self.callers.ended().await;
        self.scene.stop(SECOND).await;
        let rows = self.scene.kept.everything();
        let (sent, seen) = {
            let book = self.scene.ledger.book();
            let since = |one: &Sent| (one.began - self.began, *one);
            let sent = book.sent.iter().map(since).collect();
            (sent, book.seen.values().cloned().collect())
        };
        self.scene.verdict(None).await;
        (rows, sent, seen)
    }
}

/// Every provider is down for a minute, while 200 calls come whose callers take a 202.
async fn outage_of_all(says: Option<(u16, Option<u8>)>) -> (Vec<Row>, usize) {
    let outage = 60 * SECOND;
    let trouble = Trouble::open(&[0, 1, 2], outage, says).await;
    for call in 0..200 {
        let at = Duration::from_millis(300 * call);
        trouble.call(call, "demoting", at, Some(9)).await;
    }
    let (rows, sent, seen) = trouble.end().await;
    assert_eq!(seen.len(), 200);
    assert!(
        seen.iter().all(|one| matches!(one.end, End::Job(_))),
        "a call was not made a job"
    );
    let within = sent.iter().filter(|(at, _)| *at < outage).count();
    for row in &rows {
        assert_eq!(row.job.status, Status::Succeeded, "{:?}", row.job);
        assert_eq!(row.job.reason, Reason::ProviderDown);
    }
    (rows, within)
}

#[tokio::test(start_paused = true)]
async fn while_every_target_refuses_calls_become_jobs_that_wait_and_only_probes_are_sent() {
    let (_, sent) = outage_of_all(Some((503, None))).await;
    // Each of three targets is ejected after five failures, and probed after 5, 10 and 20 s.
    assert!(
        (15..=30).contains(&sent),
        "{sent} calls were sent into the outage"
    );
}

#[tokio::test(start_paused = true)]
async fn while_no_target_can_be_reached_calls_become_jobs_that_wait() {
    let (rows, sent) = outage_of_all(None).await;
    assert_eq!(sent, 0);
    let most = rows.iter().map(|row| row.job.attempts).max();
    assert!(most < Some(4), "{most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_counts_by_how_it_ended_in_the_queue_or_at_its_last_attempt() {
    for (says, end, other) in [
        (None, "expired", "failed"),
        (Some((500, None)), "failed", "expired"),
    ] {
        let trouble = Trouble::open(&[0, 1, 2], 300 * SECOND, says).await;
        trouble.call(1, "demoting", Duration::ZERO, Some(0)).await;
        sleep_until(trouble.began + 150 * SECOND).await;
        let count = |status| {
            let series = "shunt_jobs_ended_total{route=\"demoting\",status=";
            let house = &trouble.scene.house;
            house.counted(&format!("{series}\"{status}\"}}"))
        };
        assert_eq!((count(end), count(other)), (Some(1), Some(0)), "{end}");
        trouble.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_says_to_one_job_holds_all_of_its_jobs_and_no_hot_call() {
    for status in [429, 503, 529] {
        let trouble = Trouble::open(&[1], 20 * SECOND, Some((status, Some(30)))).await;
        for call in 0..30 {
            trouble.call(call, "waiting", Duration::ZERO, Some(0)).await;
        }
        // The provider is well again before the time that it said.
        trouble.call(30, "waiting", 25 * SECOND, None).await;
        let (rows, sent, seen) = trouble.end().await;
        assert!(rows.iter().all(|row| row.job.status == Status::Succeeded));
        let early: Vec<_> = sent.iter().filter(|(at, _)| *at < 30 * SECOND).collect();
        // Those that were under way, `concurrency` of them, and the hot call.
        assert_eq!(early.len(), 5, "{status}: {early:?}");
        assert_eq!(early[4].1.call, 30);
        assert_eq!(seen[30].head.unwrap().0, 200);
        assert!(seen[30].ended - seen[30].sent < SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn while_one_provider_rests_its_route_s_jobs_go_to_the_others() {
    for status in [429, 503] {
        let trouble = Trouble::open(&[1], 20 * SECOND, Some((status, Some(30)))).await;
        for call in 0..30 {
            trouble.call(call, "seeing", Duration::ZERO, Some(0)).await;
        }
        let (rows, sent, _) = trouble.end().await;
        assert!(rows.iter().all(|row| row.job.status == Status::Succeeded));
        let early = sent.iter().filter(|(at, _)| *at < 30 * SECOND);
        let (resting, other): (Vec<_>, Vec<_>) = early.partition(|one| one.1.provider == 1);
        // Those that were under way, `concurrency` of them; only they wait for the time that it said.
        assert!((1..=4).contains(&resting.len()), "{status}: {resting:?}");
        assert_eq!(other.len() + resting.len(), 30, "{status}");
        let soon = other.iter().all(|(at, _)| *at < 10 * SECOND);
        assert!(soon, "{status}: {other:?}");
    }
}
