//! A whole gateway: builds the rooms from a configuration, runs them, drains them.
//!
//! Promises: hot workers are threads of their own, which no job, scrape or callback can hold up;
//! after a drain no task is left. Only wires; decides nothing.

mod build;
mod callbacks;
mod dry;
mod files;
mod operators;
mod owners;
mod reload;
mod restart;
mod secrets;
mod secured;
mod tended;
mod told;
mod worker;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use arc_swap::ArcSwap;
use tokio::runtime::{self, Runtime};
use tokio::sync::Notify;

pub(crate) use self::build::{cold_routes, state};
use self::build::{reloads, signer, store};
use self::callbacks::Callbacks;
pub use self::dry::dry;
pub(crate) use self::owners::Owners;
use self::restart::Started;
use self::secured::Secured;
use self::tended::SECOND;
pub(crate) use self::tended::{keep_time, keep_warm};
use self::told::told;
use self::worker::work;
use crate::cold::callback::{self, AddressGuard, Deliverer, Sender, Signer, System};
use crate::cold::door::Door;
use crate::cold::runner::{ColdRoutes, Parts, Pulse, Runner};
use crate::cold::store::SharedStore;
use crate::config::Config;
use crate::hot::{Gateway, Worker};
use crate::journal::{Journal, Log};
use crate::latency::{Summary, Window};
use crate::listen::{self, Listener, Shared};
use crate::meter::{Meter, Refused};
use crate::upstream::connect::Transport;
use crate::upstream::names::Names;
use crate::upstream::provider::Ground;
use crate::upstream::tls::Roots;

pub use self::files::expired;
pub use self::secrets::astray;

/// Why a gateway would not start here for want of a secret, a file, a folder or a certificate that can
/// be used: the key and a sentence, one each.
pub fn missing(config: &Config) -> Vec<String> {
    [secrets::missing(config), files::missing(config)].concat()
}

/// A running gateway.
pub struct Server {
    /// Where callers connect.
    pub public: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    control: Runtime,
    workers: Vec<JoinHandle<()>>,
    gateway: Arc<Gateway>,
    routes: Arc<ColdRoutes>,
    meter: Arc<Meter>,
    ground: Ground,
    secured: Secured,
    owners: Owners,
    store: SharedStore,
    draining: Arc<AtomicBool>,
    drain: Duration,
    /// Writes the access log, if there is one.
    log: Option<Log>,
    /// What it was started with.
    started: Started,
}

impl Server {
    /// Starts a gateway; it accepts when this returns.
    ///
    /// # Errors
    /// A port is taken, the store cannot be opened, a secret is missing.
    pub fn start(config: &Config) -> Result<Self> {
        let count = match config.server.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let owners = Owners::default();
        let control = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("control")
            .enable_all()
            .build()?;
        let meter = Meter::new(count + 1);
        let ground = control.block_on(async {
            let names = Names::of_the_system(&config.names, owners.connections.clone());
            Ground {
                roots: Roots::of_the_system(),
                names: Some(names),
                transport: Transport::Sockets,
                tasks: owners.connections.clone(),
                pools: count + 1,
            }
        });
        let built = state(config, &ground, None, &meter)?;
        let inside = control.enter();
        let secured = Secured::new(config, &meter, &owners.background)?;
        drop(inside);
        built.table.begins(&meter);
        let turns = built.turns();
        let routes = cold_routes(&built.table, &HashMap::new(), &meter);
        let routes = Arc::new(ArcSwap::from_pointee(routes));
        let store = control.block_on(store(config, &owners.store))?;
        store.share_out(turns);
        let guard = AddressGuard::new(&config.callbacks.allow).map_err(|why| anyhow!(why))?;
        let guard = Arc::new(guard);
        let signer = signer(&config.callbacks)?;
        let journal = Journal::new(config, &meter);
        let log = told(config, &ground, &meter, journal.as_ref(), &control, &owners)?;
        let (door, intake) = Door::new(signer.is_some().then(|| guard.clone()));
        let callbacks = Arc::new(Notify::new());
        let runner = Runner::new(Parts {
            store: store.clone(),
            routes: routes.clone(),
            meter: meter.clone(),
            tasks: owners.jobs.clone(),
            pool: count,
            answer_limit: config.limits.answer.bytes(),
            retention: config.cold.retention.get(),
            callbacks: callbacks.clone(),
            stop: owners.stop.clone(),
            pulse: Pulse::new(config.cold.heartbeat.get()),
            journal: journal.as_ref().and_then(Journal::tracing),
        });
        let keys = callback::keys::router(signer.as_ref());
        let api = crate::cold::api::router(runner.clone()).merge(keys);
        let gateway = Gateway::new(built, door, api, owners.calls.clone());
        let gateway = Arc::new(gateway.telling(journal.clone()));
        let mut server = Self {
            public: config.listen.public,
            admin: config.listen.admin,
            control,
            workers: Vec::new(),
            gateway,
            routes,
            meter,
            ground,
            secured,
            owners,
            store,
            draining: Arc::default(),
            drain: config.server.drain.get(),
            log,
            started: Started::with(config),
        };
        // First: no job is claimed by a gateway that cannot listen.
        let admin = server.bind_admin()?;
        let public = server.bind_public(count)?;
        server.run_jobs(&runner, intake)?;
        server.deliver(config, signer, guard, callbacks, journal)?;
        server.keep_time();
        server.serve_admin(config, runner, admin)?;
        server.serve_public(config, public)?;
        Ok(server)
    }

    fn run_jobs(
        &self,
        runner: &Arc<Runner>,
        intake: tokio::sync::mpsc::Receiver<crate::cold::door::Errand>,
    ) -> Result<()> {
        let _inside = self.control.enter();
        let begun = self.control.block_on(runner.begin());
        begun.context("the store cannot be read")?;
        let background = &self.owners.background;
        background.spawn(runner.clone().keep_lease());
        background.spawn(runner.clone().listen());
        let (jobs, rest) = (&self.owners.jobs, &self.owners.rest);
        jobs.spawn(runner.clone().take_over(intake, rest.clone()));
        jobs.spawn(runner.clone().look_after(rest.clone()));
        jobs.spawn(runner.clone().sweep_old(rest.clone()));
        Ok(())
    }

    fn deliver(
        &self,
        config: &Config,
        signer: Option<Arc<Signer>>,
        guard: Arc<AddressGuard>,
        wake: Arc<Notify>,
        journal: Option<Arc<Journal>>,
    ) -> Result<()> {
        let Some(signer) = signer else { return Ok(()) };
        let callbacks = &config.callbacks;
        let tls = self
            .ground
            .roots
            .client(None, None, &[b"http/1.1"])
            .map_err(|why| anyhow!(why))?;
        let deliverer = Arc::new(Deliverer {
            store: self.store.clone(),
            signer,
            sender: Arc::new(Sender::new(
                guard.clone(),
                Arc::new(System(self.ground.names.clone())),
                tls,
                callbacks.timeout.get(),
            )),
            guard,
            settings: self::callbacks::settings(callbacks),
            watch: Arc::new(Callbacks::new(&self.meter, journal)),
            long: tokio::sync::Mutex::default(),
        });
        let _inside = self.control.enter();
        let rest = self.owners.rest.clone();
        self.owners.background.spawn(deliverer.run(rest, wake));
        Ok(())
    }

    /// Moves the windows on each second, and the hedge delays with them.
    fn keep_time(&self) {
        let (meter, gateway) = (self.meter.clone(), self.gateway.clone());
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        meter.gauge("shunt_build_info", &version).set(1.0);
        for result in ["ok", "failed"] {
            _ = reloads(&meter, result);
        }
        let _inside = self.control.enter();
        self.owners
            .background
            .spawn(keep_time(meter, gateway, SECOND));
    }

    /// Binds the public address, once for each worker.
    fn bind_public(&mut self, count: usize) -> Result<Vec<TcpListener>> {
        let bind = |address, shared| {
            listen::bind(address, shared).with_context(|| taken("public", address))
        };
        // Workers share the address; a second gateway there would take half of the calls in silence.
        drop(bind(self.public, Shared::No)?);
        let mut sockets = Vec::new();
        for _ in 0..count {
            let socket = bind(self.public, Shared::WithWorkers)?;
            self.public = socket.local_addr()?;
            sockets.push(socket);
        }
        Ok(sockets)
    }

    fn serve_public(&mut self, config: &Config, sockets: Vec<TcpListener>) -> Result<()> {
        for (index, socket) in sockets.into_iter().enumerate() {
            let listener = Listener {
                answers: Arc::new(Worker::new(index, self.gateway.clone())),
                limits: config.limits.clone(),
                refused: Refused::new(&self.meter),
                tls: self.secured.public.clone(),
                tasks: self.owners.calls.clone(),
                stop: self.owners.stop.clone(),
            };
            let (gateway, owners) = (self.gateway.clone(), self.owners.clone());
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || work(index, listener, socket, &gateway, &owners))?;
            self.workers.push(thread);
        }
        Ok(())
    }

    /// Opens the access log's file anew, which may have been moved away.
    pub fn open_anew(&self) {
        if let Some(log) = &self.log {
            log.open_anew();
        }
    }

    /// The sum of a counter's series whose labels contain a text, as a scrape would tell it.
    pub fn counter_sum(&self, name: &str, label: &str) -> u64 {
        let text = self.meter.render();
        let ours = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// The gateway's own part of a route's calls in the last minute.
    pub fn overhead(&self, route: &str) -> Option<Summary> {
        let state = self.gateway.state.load_full();
        let route = state
            .table
            .routes()
            .iter()
            .find(|one| &*one.name == route)?;
        Some(
            route
                .meter
                .overhead
                .views()
                .window(Window::Minute)
                .summary(),
        )
    }

    /// Runs something on the control runtime.
    pub fn block_on<F: Future>(&self, task: F) -> F::Output {
        self.control.block_on(task)
    }

    /// Lets running calls and jobs end, cuts what is left after the drain time, and stops.
    /// Gives the number of tasks alive afterwards: zero.
    pub fn drain(self) -> usize {
        self.drain_unless(std::future::pending())
    }

    /// The same, but cuts what is left as soon as there is a hurry.
    pub fn drain_unless(mut self, hurry: impl Future<Output = ()>) -> usize {
        self.draining.store(true, Ordering::Relaxed);
        let owners = self.owners.clone();
        let drain = owners.drain(self.drain, &self.store, hurry);
        self.control.block_on(drain);
        owners.leave.cancel();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        if let Some(log) = self.log.take() {
            log.end(LAST_LINES);
        }
        owners.alive()
    }
}

/// Longest wait for the access log's last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

fn taken(which: &str, address: SocketAddr) -> String {
    format!("the {which} address {address} cannot be used; choose another in listen.{which}")
}

#[cfg(test)]
mod tests {
    /// The keys of what is missing.
    pub fn keys_of(told: &[String]) -> Vec<&str> {
        let keys = told.iter().filter_map(|one| one.split(": ").next());
        keys.collect()
    }
}
