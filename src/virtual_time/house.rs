//! A whole gateway on one runtime, wired from the same parts as `server` wires it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::Notify;

use crate::cold::door::Door;
use crate::cold::runner::{Parts, Pulse, Runner};
use crate::cold::store::SharedStore;
use crate::config::{self, Config};
use crate::hot::{Gateway, Route, Worker};
use crate::journal::Journal;
use crate::listen::Listener;
use crate::meter::Meter;
use crate::server::{Owners, cold_routes, keep_time, keep_warm, state};
use crate::upstream::connect::{Connector, Transport};
use crate::upstream::provider::Ground;
use crate::upstream::tls::Roots;

/// Hot workers; in a process each has a thread, here they share one.
const WORKERS: usize = 2;

/// A gateway that runs.
pub struct House {
    owners: Owners,
    store: SharedStore,
    gateway: Arc<Gateway>,
    meter: Arc<Meter>,
    journal: Arc<Journal>,
    /// Runs its jobs.
    pub runner: Arc<Runner>,
    /// One for each worker.
    pub listeners: Vec<Arc<Listener>>,
}

fn config() -> Config {
    config::parse(include_str!("house.toml"), "house.toml").unwrap()
}

/// A worker with its listener.
fn worker(index: usize, config: &Config, owners: &Owners, gateway: &Arc<Gateway>) -> Arc<Listener> {
    owners.connections.spawn(keep_warm(index, gateway.clone()));
    Arc::new(Listener {
        answers: Arc::new(Worker::new(index, gateway.clone())),
        limits: config.limits.clone(),
        refused: gateway.state.load().refused.clone(),
        tls: None,
        tasks: owners.calls.clone(),
        stop: owners.stop.clone(),
    })
}

impl House {
    /// Starts a gateway over a store and a way to its providers. `tick`: how often its windows
    /// move, for which a debug build takes some 25 ms.
    pub async fn open(store: SharedStore, connector: Connector, tick: Duration) -> Self {
        let (config, owners) = (config(), Owners::default());
        let meter = Meter::new(1);
        let ground = Ground {
            roots: Roots::of_the_system(),
            names: None,
            transport: Transport::Memory(connector),
            tasks: owners.connections.clone(),
            pools: WORKERS + 1,
        };
        let built = state(&config, &ground, None, &meter).unwrap();
        let routes = Arc::new(ArcSwap::from_pointee(cold_routes(
            &built.table,
            &HashMap::new(),
            &meter,
        )));
        let (door, intake) = Door::new(None);
        let runner = Runner::new(Parts {
            store: store.clone(),
            routes,
            meter: meter.clone(),
            tasks: owners.jobs.clone(),
            pool: WORKERS,
            answer_limit: config.limits.answer.bytes(),
            retention: config.cold.retention.get(),
            callbacks: Arc::new(Notify::new()),
            stop: owners.stop.clone(),
            pulse: Pulse::new(config.cold.heartbeat.get()),
            journal: None,
        });
        runner.begin().await.unwrap();
        let api = crate::cold::api::router(runner.clone());
        let journal = Journal::new(&config, &meter).unwrap();
        let gateway = Gateway::new(built, door, api, owners.calls.clone());
        let gateway = Arc::new(gateway.telling(Some(journal.clone())));
        let rest = owners.rest.clone();
        let jobs = &owners.jobs;
        owners.background.spawn(runner.clone().keep_lease());
        owners.background.spawn(runner.clone().listen());
        jobs.spawn(runner.clone().take_over(intake, rest.clone()));
        jobs.spawn(runner.clone().look_after(rest.clone()));
        jobs.spawn(runner.clone().sweep_old(rest));
        owners
            .background
            .spawn(keep_time(meter.clone(), gateway.clone(), tick));
        let listeners = (0..WORKERS).map(|index| worker(index, &config, &owners, &gateway));
        let listeners = listeners.collect();
        Self {
            owners,
            store,
            gateway,
            meter,
            journal,
            runner,
            listeners,
        }
    }

    /// Its routes.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        self.gateway.state.load().table.routes().to_vec()
    }

    /// The way to its cold side.
    pub fn door(&self) -> &Door {
        &self.gateway.door
    }

    /// Attempts that run, by the gateway's own account.
    pub fn attempts(&self) -> usize {
        let state = self.gateway.state.load();
        let routes = state.table.routes().iter();
        let targets = routes.flat_map(|route| route.targets.all());
        targets.map(|target| target.meter.running()).sum()
    }

    /// What one counter stands at; by its name and labels as a scrape writes them.
    pub fn counted(&self, series: &str) -> Option<u64> {
        let text = self.meter.render();
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Ends as a process does that is killed.
    pub async fn kill(&self) {
        self.owners.kill().await;
    }

    /// Lets calls and jobs end, cuts what is left after the limit. Gives what is still alive:
    /// tasks and attempts.
    pub async fn drain(&self, limit: Duration) -> (usize, usize) {
        let hurry = std::future::pending();
        self.owners.drain(limit, &self.store, hurry).await;
        self.told();
        (self.owners.alive(), self.attempts())
    }

    /// Each call that was counted was told once, and nothing of it that cannot be.
    fn told(&self) {
        let lines = self.journal.left();
        let lines = lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let calls: Vec<Value> = lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let faults: Vec<_> = calls.iter().filter(|call| is_faulty(call)).collect();
        assert_eq!(faults, Vec::<&Value>::new());
        // What was refused or left before it had a route is told, and counted nowhere.
        let told = calls
            .iter()
            .filter(|call| call["route"].is_string())
            .count() as u64;
        let text = self.meter.render();
        let lines = text.lines();
        let counts = lines.filter(|line| line.starts_with("shunt_requests_total{"));
        let counts = counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        assert_eq!(told, counts.sum::<u64>(), "calls told and calls counted");
    }
}

/// Whether what a line tells cannot be.
fn is_faulty(call: &Value) -> bool {
    let within = |time: &Value, from: f64, to: f64| {
        time.as_f64().is_none_or(|time| (from..=to).contains(&time))
    };
    let total = call["total_ms"].as_f64().unwrap();
    let shares = ["queue_ms", "own_ms", "first_token_ms"];
    let fits = shares.iter().all(|share| within(&call[share], 0.0, total));
    let attempts = call["attempts"].as_array().unwrap();
    let timely = attempts.iter().all(|one| {
        let (start, end) = (
            one["start_ms"].as_f64().unwrap(),
            one["end_ms"].as_f64().unwrap(),
        );
        start <= end && end <= total && within(&one["first_token_ms"], start, end)
    });
    let ended = |words: &[&str]| {
        let results = attempts.iter().filter_map(|one| one["result"].as_str());
        results.filter(|result| words.contains(result)).count()
    };
    let running = ended(&["running"]) > 0;
    let won = ended(&["won", "broke_off"]);
    let demoted = call["outcome"] == "demoted";
    let explained = !demoted || call["job"].is_string() && call["why"].is_string();
    !fits || !timely || running || won > 1 || !explained
}
