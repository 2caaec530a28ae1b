//! Gateways that share a store: they die, leave, are cut off and hear of each other late or not at
//! all; whatever happens, each job ends once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use super::house::House;
use super::ledger::Ledger;
use super::provider::Fate;
use super::{Run, identity, network, seed};
use crate::cold::job::{
    Callback, CallbackStatus, Job, JobId, Owner, Reason, Status, StoredRequest, UnixMillis,
    virtual_clock,
};
use crate::cold::store::memory::{Kept, MemoryStore, Post, Row};
use crate::cold::store::{DeliveryOutcome, Store as _};
use crate::tasks::Tasks;
use crate::upstream::connect::Connector;

const SECOND: Duration = Duration::from_secs(1);
/// `cold.heartbeat` by default.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What gateways share.
struct Town {
    run: Run,
    ledger: Ledger,
    kept: Kept,
    connector: Connector,
    /// Connections at the providers, and news on their way.
    links: Tasks,
    loss: f64,
    /// Under which names each job's end was told.
    told: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

/// A gateway, and who delivers its callbacks.
struct Member {
    house: House,
    store: Arc<MemoryStore>,
    postman: Tasks,
}

impl Town {
    fn new(seed: u64, fates: &'static [Fate], loss: f64) -> Self {
        virtual_clock::begin(UnixMillis(1_795_514_400_000));
        let run = Run {
            seed,
            length: Duration::from_mins(2),
            rate: 1,
            restarts: false,
        };
        let (ledger, links) = (Ledger::default(), Tasks::new());
        Self {
            run,
            connector: network(run, &ledger, &links, fates),
            kept: Kept::default(),
            told: Arc::default(),
            ledger,
            links,
            loss,
        }
    }

    /// One more gateway.
    async fn join(&self) -> Member {
        let post = Post {
            lag: Duration::from_millis(20),
            loss: self.loss,
            tasks: self.links.clone(),
            seed: self.run.seed,
        };
        let store = MemoryStore::open(&self.kept, 10_000).taking(|| Duration::from_millis(4));
        let store = Arc::new(store.hearing(post));
        let tick = Duration::from_mins(1);
        let house = House::open(store.clone(), self.connector.clone(), tick).await;
        let postman = Tasks::new();
        postman.spawn(deliver(store.clone(), self.told.clone()));
        Member {
            house,
            store,
            postman,
        }
    }

    fn rows(&self) -> Vec<Row> {
        self.kept.everything()
    }

    /// How often a call was sent.
    fn sent(&self, call: u64) -> usize {
        self.ledger.book().fates(call).count()
    }

    /// How long it takes until something is so; at most five minutes.
    async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !is(self) {
            assert!(began.elapsed() < Duration::from_mins(5), "never: {what}");
            sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    async fn all_end(&self) {
        let ended = |town: &Self| town.rows().iter().all(|row| row.job.status.is_final());
        self.until("all jobs have ended", ended).await;
    }
}

impl Member {
    /// As `kill -9` does.
    async fn dies(self) {
        self.postman.cut();
        self.postman.ended().await;
        self.house.kill().await;
    }

    async fn leaves(self, limit: Duration) {
        self.postman.cut();
        self.postman.ended().await;
        assert_eq!(self.house.drain(limit).await, (0, 0), "tasks are left");
    }
}

/// Delivers what is due; each post takes a while, in which its gateway may die.
async fn deliver(store: Arc<MemoryStore>, told: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>) {
    loop {
        sleep(Duration::from_millis(300)).await;
        let now = UnixMillis::now();
        let due = store.claim_deliveries(16, now, now.plus(45 * SECOND)).await;
        for one in due.unwrap_or_default() {
            sleep(Duration::from_millis(20)).await;
            {
                let mut told = told.lock().unwrap();
                let names = told.entry(one.job.id.to_string()).or_default();
                names.insert(one.webhook_id.clone());
            }
            let _ = store
                .delivered(&one.webhook_id, DeliveryOutcome::Delivered)
                .await;
        }
    }
}

fn job(route: &str) -> Job {
    let now = UnixMillis::now();
    Job {
        id: JobId::random(),
        owner: Owner::ANYONE,
        status: Status::Queued,
        route: route.into(),
        reason: Reason::Requested,
        budget_ms: 0,
        elapsed_ms: 0,
        created_at: now,
        expires_at: now.plus(Duration::from_mins(2)),
        finished_at: None,
        attempts: 0,
        fence: 0,
        error: None,
        priority: crate::cold::priority::Priority::default(),
        callback: Some(Callback {
            url: "https://hooks.example.com/x".into(),
            status: CallbackStatus::Pending,
            deliveries: 0,
            last_error: None,
        }),
        scope: None,
        background: None,
    }
}

fn request(call: u64, streamed: bool) -> StoredRequest {
    let header = |name: &str, value: String| (name.to_owned(), value.into_bytes());
    StoredRequest {
        method: "POST".into(),
        path_and_query: "/v1/chat/completions".into(),
        headers: vec![
            header("content-type", "application/json".into()),
            header(identity::CALL, call.to_string()),
        ],
        body: identity::request(call, streamed),
    }
}

/// One hour of a hostile life, drawn from a seed.
struct Storm {
    town: Town,
    random: StdRng,
    members: Vec<Member>,
    /// Who is cut off, and until when.
    cut: Vec<Option<Instant>>,
}

impl Storm {
    async fn strikes(&mut self) {
        let at = self.random.random_range(0..self.members.len());
        let fault = self.random.random_range(0..3);
        if fault == 0 {
            let lasts = Duration::from_millis(self.random.random_range(500..20_000));
            self.members[at].store.reach.cut(true);
            self.cut[at] = Some(Instant::now() + lasts);
            return;
        }
        let new = self.town.join().await;
        let old = std::mem::replace(&mut self.members[at], new);
        self.cut[at] = None;
        if fault == 1 {
            old.dies().await;
        } else {
            old.leaves(SECOND).await;
        }
    }

    fn heal(&mut self, all: bool) {
        for (member, cut) in self.members.iter().zip(&mut self.cut) {
            if cut.is_some_and(|until| all || until <= Instant::now()) {
                member.store.reach.cut(false);
                *cut = None;
            }
        }
    }

    /// Jobs come in at any gateway, and some are cancelled at another.
    async fn traffic(&mut self, calls: u64) -> BTreeSet<String> {
        let mut promised = BTreeSet::new();
        let mut cancels = Vec::new();
        for call in 1..=calls {
            sleep(Duration::from_millis(self.random.random_range(300..1_000))).await;
            self.heal(false);
            if call % 12 == 0 {
                self.strikes().await;
            }
            let at = self.random.random_range(0..self.members.len());
            let job = job("demoting");
            let id = job.id.clone();
            let kept = self.members[at].store.insert(job, request(call, false));
            if kept.await.is_ok() {
                promised.insert(id.to_string());
            }
            if call % 9 == 0 {
                cancels.push(id);
            }
            if call % 9 == 5
                && let Some(id) = cancels.pop()
            {
                let at = self.random.random_range(0..self.members.len());
                self.members[at].house.runner.cancel_for_operator(&id).await;
            }
        }
        promised
    }
}

async fn storm(seed: u64) {
    super::count_panics();
    let town = Town::new(seed, &[Fate::AnswersLate], 0.05);
    let members = vec![town.join().await, town.join().await, town.join().await];
    let mut storm = Storm {
        random: StdRng::seed_from_u64(seed),
        members,
        cut: vec![None; 3],
        town,
    };
    let promised = storm.traffic(150).await;
    storm.heal(true);
    let town = &storm.town;
    town.all_end().await;
    let told = || town.told.lock().unwrap().clone();
    let all = town.rows().len();
    town.until("all ends are told", |_| told().len() == all)
        .await;
    for member in storm.members {
        member.leaves(SECOND).await;
    }
    let (told, rows) = (told(), town.rows());
    let mut deaths = 0;
    for row in &rows {
        let call = row.request.headers[1].1.clone();
        let call: u64 = String::from_utf8(call).unwrap().parse().unwrap();
        let lost = row.history.iter().filter(|one| one.result == "lost");
        let (lost, sent) = (lost.count(), town.sent(call));
        let text = format!("seed {seed}, call {call}, {:?}: {:?}", row.job, row.history);
        assert_eq!(row.ends, 1, "not one end: {text}");
        assert!(sent <= 1 + lost, "sent {sent} times: {text}");
        if row.job.status == Status::Succeeded {
            let answer = row.answer.as_ref().unwrap();
            assert_eq!(answer.body, identity::answer(call, false), "{text}");
        }
        let names: Vec<&str> = told[row.job.id.as_str()]
            .iter()
            .map(String::as_str)
            .collect();
        assert_eq!(names, [row.webhook_id().unwrap()], "{text}");
        deaths += lost;
    }
    let names: BTreeSet<_> = rows.iter().map(|row| row.job.id.to_string()).collect();
    assert!(promised.is_subset(&names), "a promised job is gone");
    let ended = |status| rows.iter().filter(|row| row.job.status == status).count();
    let (good, expired) = (ended(Status::Succeeded), ended(Status::Expired));
    let sent = town.ledger.book().sent.len();
    eprintln!(
        "seed {seed}: {all} jobs, {sent} calls, {deaths} attempts lost, {good} succeeded, {expired} expired"
    );
    assert!(deaths > 0 && good > all / 2, "the storm tells nothing");
    assert_eq!(town.ledger.book().running, 0, "calls are left at providers");
    assert!(
        town.ledger.book().faults.is_empty(),
        "{:?}",
        town.ledger.book().faults
    );
    assert_eq!(super::PANICS.get(), 0, "tasks panicked");
}

#[tokio::test(start_paused = true)]
async fn gateways_that_die_leave_and_are_cut_off_end_every_job_once() {
    for at in 0..4 {
        storm(seed(40) + at).await;
    }
}

/// A job that runs at the first gateway, and a second that came later.
async fn running(town: &Town, streamed: bool) -> (Member, Member, JobId) {
    let first = town.join().await;
    let job = job("seeing");
    let id = job.id.clone();
    let kept = first.store.insert(job, request(1, streamed)).await;
    kept.unwrap();
    town.until("it runs", |town| town.sent(1) == 1).await;
    (first, town.join().await, id)
}

#[tokio::test(start_paused = true)]
async fn a_dead_gateways_job_runs_elsewhere_within_two_heartbeats() {
    for beat in 0..8 {
        let town = Town::new(50 + beat, &[Fate::AnswersLate], 0.0);
        let (first, second, _) = running(&town, false).await;
        // Deaths all over the time between two renewals.
        sleep(Duration::from_millis(beat * 170)).await;
        first.dies().await;
        let took = town.until("it runs again", |town| town.sent(1) == 2).await;
        assert!(took <= HEARTBEAT * 2, "{took:?}");
        town.all_end().await;
        second.leaves(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_leaves_gives_its_jobs_to_the_others_at_once() {
    let town = Town::new(60, &[Fate::Stalls, Fate::AnswersLate], 0.0);
    let (first, second, _) = running(&town, false).await;
    first.leaves(SECOND).await;
    let took = town.until("it runs again", |town| town.sent(1) == 2).await;
    assert!(took <= Duration::from_millis(200), "{took:?}");
    town.all_end().await;
    second.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_anywhere_stops_its_call_within_100_ms() {
    let town = Town::new(61, &[Fate::Stalls], 0.0);
    let (first, second, id) = running(&town, false).await;
    second.house.runner.cancel_for_operator(&id).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(town.ledger.book().running, 0);
    first.leaves(SECOND).await;
    second.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_gateway_that_was_cut_off_keeps_what_it_runs() {
    let town = Town::new(62, &[Fate::AnswersLate], 0.0);
    let first = town.join().await;
    first
        .store
        .insert(job("seeing"), request(1, false))
        .await
        .unwrap();
    town.until("it runs", |town| town.sent(1) == 1).await;
    first.store.reach.cut(true);
    sleep(HEARTBEAT * 4).await;
    first.store.reach.cut(false);
    town.all_end().await;
    let row = &town.rows()[0];
    assert_eq!((row.job.status, town.sent(1)), (Status::Succeeded, 1));
    first.leaves(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_lost_a_job_while_it_was_cut_off_stops_it() {
    let town = Town::new(63, &[Fate::Stalls], 0.0);
    let (first, second, _) = running(&town, false).await;
    first.store.reach.cut(true);
    town.until("it runs twice", |town| town.sent(1) == 2).await;
    assert_eq!(town.ledger.book().running, 2);
    first.store.reach.cut(false);
    let once = |town: &Town| town.ledger.book().running == 1;
    let took = town.until("it runs once", once).await;
    assert!(took <= HEARTBEAT, "{took:?}");
    first.leaves(SECOND).await;
    second.leaves(SECOND).await;
}

/// Reads a job's events at a gateway, from a place on, until enough were read or they end.
async fn events(member: &Member, id: &JobId, from: Option<&str>, enough: usize) -> Vec<String> {
    let mut request = Request::get(format!("/jobs/{id}/events"));
    if let Some(from) = from {
        request = request.header("last-event-id", from);
    }
    let api = crate::cold::api::router(member.house.runner.clone());
    let response = api
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (mut body, mut text) = (response.into_body(), String::new());
    let whole = |text: &str| text.matches("\n\n").count();
    while whole(&text) < enough
        && let Some(frame) = body.frame().await
    {
        text += std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap();
    }
    let events = text.split_inclusive("\n\n").map(str::to_owned);
    events.filter(|event| !event.starts_with(':')).collect()
}

/// The bytes of the provider's events among these.
fn content(events: &[String]) -> String {
    let ours = events
        .iter()
        .filter(|event| !event.contains("event: status"));
    let lines = ours.flat_map(|event| event.split_inclusive('\n'));
    lines.filter(|line| !line.starts_with("id:")).collect()
}

fn place(event: &str) -> &str {
    event.lines().next().unwrap().strip_prefix("id: ").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_jobs_events_are_read_at_any_gateway_and_resumed_at_another() {
    let town = Town::new(64, &[Fate::AnswersLate], 0.0);
    let (first, second, id) = running(&town, true).await;
    let whole = String::from_utf8(identity::answer(1, true)).unwrap();
    let far = usize::MAX;
    let there = async {
        let begun = events(&first, &id, None, 3).await;
        let rest = events(&second, &id, Some(place(&begun[2])), far).await;
        assert!(!rest.concat().contains("restart"), "{rest:?}");
        content(&[begun, rest].concat())
    };
    let (elsewhere, there) = tokio::join!(events(&second, &id, None, far), there);
    assert_eq!(there, whole);
    assert_eq!(content(&elsewhere), whole);
    let (running, last) = (&elsewhere[0], elsewhere.last().unwrap());
    assert!(running.contains(r#""status":"running""#), "{running}");
    assert!(last.contains(r#""status":"succeeded""#), "{last}");
    first.leaves(SECOND).await;
    second.leaves(SECOND).await;
}
