//! Names of providers and of receivers of callbacks, and the addresses behind them.
//!
//! Promises: of a name there is one look-up at a time, whoever asks; nobody waits for it longer than
//! `names.timeout`, and where the name was found before no longer than `names.patience`: while look-ups
//! do not answer, or fail, what was found last is used, for `names.stale` at most (RFC 8767). A name
//! that is said not to exist is not. The system's resolver holds `names.threads` threads at most.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config;
use crate::tasks::Tasks;

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its addresses; at least one.
    Found(Arc<[IpAddr]>),
    /// There is no such name.
    Denied,
    /// It is not known.
    Failed,
}

/// Looks a name up.
pub type Source = Arc<dyn Fn(&str) -> BoxFuture<'static, Answer> + Send + Sync>;

/// All names; clones share them.
#[derive(Clone)]
pub struct Names(Arc<Shared>);

struct Shared {
    settings: config::Names,
    source: Source,
    tasks: Tasks,
    /// Those that somebody holds. Asked when a provider is made, and by callbacks.
    known: Mutex<HashMap<String, Weak<Name>>>,
}

/// Names that nobody holds are forgotten when so many are known, and twice as many as before.
const KNOWN: usize = 64;

impl Names {
    /// Names that a source finds; `tasks` owns the look-ups.
    pub fn new(settings: &config::Names, source: Source, tasks: Tasks) -> Self {
        Self(Arc::new(Shared {
            settings: settings.clone(),
            source,
            tasks,
            known: Mutex::default(),
        }))
    }

    /// Names as DNS and this system know them. Called on a runtime.
    pub fn of_the_system(settings: &config::Names, tasks: Tasks) -> Self {
        let resolver = TokioResolver::builder_tokio()
            .and_then(hickory_resolver::ResolverBuilder::build)
            .ok();
        Self::new(settings, system(settings, resolver, tasks.clone()), tasks)
    }

    /// A name.
    pub fn of(&self, host: &str) -> Arc<Name> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(host).and_then(Weak::upgrade) {
            return name;
        }
        if known.len() >= KNOWN && known.len() == known.capacity() {
            known.retain(|_, name| name.strong_count() > 0);
        }
        let name = Arc::new(Name {
            host: host.to_owned(),
            names: self.clone(),
            state: Mutex::default(),
        });
        known.insert(host.to_owned(), Arc::downgrade(&name));
        name
    }
}

/// A look-up under way, and since when.
type Flight = (watch::Receiver<Option<Answer>>, Instant);

#[derive(Default)]
struct State {
    /// What was found last, and when.
    last: Option<(Arc<[IpAddr]>, Instant)>,
    flight: Option<Flight>,
}

/// One name.
pub struct Name {
    host: String,
    names: Names,
    /// Held for an assignment, and only by who opens a connection.
    state: Mutex<State>,
}

impl Name {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its addresses; `None`: they are not known in time.
    pub async fn addresses(self: &Arc<Self>) -> Option<Arc<[IpAddr]>> {
        let settings = &self.names.0.settings;
        let (mut answer, began) = self.look_up();
        let last = self.state().last.clone();
        let last = last.filter(|(_, at)| at.elapsed() < settings.stale.get());
        let wait = match last {
            Some(_) => settings.patience.get(),
            None => settings.timeout.get(),
        };
        let answer = timeout_at(began + wait, answer.wait_for(Option::is_some)).await;
        let answer = answer.ok().and_then(Result::ok).and_then(|one| one.clone());
        match answer {
            Some(Answer::Found(addresses)) => Some(addresses),
            Some(Answer::Denied) => None,
            Some(Answer::Failed) | None => last.map(|(addresses, _)| addresses),
        }
    }

    /// The look-up that is under way, or one that begins.
    pub fn look_up(self: &Arc<Self>) -> Flight {
        let mut state = self.state();
        // One whose task was dropped says nothing any more.
        let runs = |(answer, _): &&Flight| answer.has_changed().is_ok();
        if let Some(flight) = state.flight.as_ref().filter(runs) {
            return flight.clone();
        }
        let (tell, told) = watch::channel(None);
        let flight = (told, Instant::now());
        state.flight = Some(flight.clone());
        drop(state);
        let name = self.clone();
        self.names.0.tasks.spawn(async move {
            let answer = name.ask().await;
            let mut state = name.state();
            match &answer {
                Answer::Found(addresses) => {
                    state.last = Some((addresses.clone(), Instant::now()));
                }
                Answer::Denied => state.last = None,
                Answer::Failed => {}
            }
            state.flight = None;
            drop(state);
            tell.send_replace(Some(answer));
        });
        flight
    }

    async fn ask(&self) -> Answer {
        let shared = &self.names.0;
        let asked = timeout(shared.settings.timeout.get(), (shared.source)(&self.host));
        asked.await.unwrap_or(Answer::Failed)
    }
}

fn found(addresses: impl Iterator<Item = IpAddr>) -> Option<Answer> {
    let addresses: Arc<[IpAddr]> = addresses.collect();
    (!addresses.is_empty()).then_some(Answer::Found(addresses))
}

/// DNS, whose answers are kept as long as they say, and then what else the system knows.
fn system(settings: &config::Names, resolver: Option<TokioResolver>, tasks: Tasks) -> Source {
    let places = Arc::new(Semaphore::new(settings.threads));
    let half = settings.timeout.get() / 2;
    Arc::new(move |host| {
        let (host, resolver) = (host.to_owned(), resolver.clone());
        let (places, tasks) = (places.clone(), tasks.clone());
        Box::pin(async move {
            let mut denied = false;
            if let Some(resolver) = resolver {
                match timeout(half, resolver.lookup_ip(host.as_str())).await {
                    Ok(Ok(told)) => {
                        if let Some(found) = found(told.iter()) {
                            return found;
                        }
                    }
                    // Not that there are no records: of two families the one that was asked last is told,
                    // and an ill server says so of the other.
                    Ok(Err(error)) => denied = error.is_nx_domain(),
                    Err(_) => {}
                }
            }
            match asked_of_the_system(host, places, &tasks).await {
                Some(found) => found,
                None if denied => Answer::Denied,
                None => Answer::Failed,
            }
        })
    })
}

/// Its thread hangs as long as the system likes, and keeps its place meanwhile.
async fn asked_of_the_system(
    host: String,
    places: Arc<Semaphore>,
    tasks: &Tasks,
) -> Option<Answer> {
    let place = places.acquire_owned().await.ok()?;
    let (give, taken) = oneshot::channel();
    tasks.spawn(async move {
        let told = tokio::net::lookup_host((host, 0)).await;
        drop(place);
        let _ = give.send(told.ok().and_then(|told| found(told.map(|one| one.ip()))));
    });
    taken.await.ok().flatten()
}

#[cfg(test)]
mod tests;
