//! What all workers share: the configuration in force, and what lies behind the calls.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, StatusCode};

use super::admission::Gate;
use super::entry;
use super::route::Table;
use super::scope::Scopes;
use super::scopes;
use super::share::Shares;
use crate::alarm::Alarms;
use crate::cold::door::Door;
use crate::config::Limits;
use crate::journal::Journal;
use crate::meter::Refused;
use crate::tasks::Tasks;

/// What a configuration became; exchanged as a whole by a reload.
pub struct State {
    /// Its routes.
    pub table: Table,
    /// Its bounds.
    pub limits: Limits,
    /// What is counted of those that break a bound.
    pub refused: Refused,
    /// Who may call; none: anyone.
    pub gate: Option<Gate>,
    /// The hand-off starts this long before the deadline.
    pub margin: Duration,
}

impl State {
    /// By which callers take turns at jobs.
    pub fn turns(&self) -> crate::cold::shares::Shares {
        let gate = self.gate.as_ref();
        gate.map(|gate| gate.keys.shares()).unwrap_or_default()
    }

    /// Why a request goes no further than its head, if it does not; counted.
    pub fn turns_away<B>(&self, request: &Request<B>) -> Option<(StatusCode, String)> {
        let checked = entry::check(request, self).err();
        checked.map(|(code, why)| (code.status(), why))
    }
}

/// What all workers share.
pub struct Gateway {
    /// The configuration in force.
    pub state: Arc<ArcSwap<State>>,
    /// The way to the cold side.
    pub door: Door,
    /// The APIs of jobs and scopes.
    pub(super) api: axum::Router,
    /// Calls that may be joined.
    pub shares: Shares,
    /// Pipelines of calls.
    pub scopes: Arc<Scopes>,
    /// Owner of tunnels, and of calls that outlive their first caller.
    pub tasks: Tasks,
    /// Where it is told what became of each call, where that is wanted.
    pub(super) journal: Option<Arc<Journal>>,
}

impl Gateway {
    /// A gateway; `jobs` is the API of jobs, `tasks` owns what outlives its first caller.
    pub fn new(state: State, door: Door, jobs: axum::Router, tasks: Tasks) -> Self {
        let state = Arc::new(ArcSwap::from_pointee(state));
        let scopes = Arc::new(Scopes::default());
        let api = scopes::router(scopes.clone(), door.clone(), state.clone());
        Self {
            state,
            door,
            api: jobs.merge(api),
            shares: Shares::default(),
            scopes,
            tasks,
            journal: None,
        }
    }

    /// The same, which tells of each call.
    #[must_use]
    pub fn telling(mut self, journal: Option<Arc<Journal>>) -> Self {
        self.journal = journal;
        self
    }
}

/// What a thread that serves calls has of its own, for one of them.
#[derive(Clone)]
pub(super) struct Seat {
    /// Which thread it is; names its connection pools.
    pub worker: usize,
    /// The timers of its calls.
    pub alarms: Arc<Alarms>,
}
