//! What happened: every call that a provider saw, and what each caller saw of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::plan::Plan;
use super::provider::Fate;

/// A call as a provider saw it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The call's number.
    pub call: u64,
    /// Which provider.
    pub provider: usize,
    /// When its head was there.
    pub began: Instant,
    /// When its answer was sent or its connection or stream closed.
    pub ended: Option<Instant>,
    /// What the provider did.
    pub fate: Fate,
    /// It did all of it.
    pub done: bool,
}

/// How a call ended for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A whole answer, or one that the provider let end early, of the provider or the gateway.
    Answered,
    /// 202 or 303: it became this job.
    Job(String),
    /// The answer or the connection broke off.
    Broken,
    /// The caller left.
    Left,
}

/// A call as its caller saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the caller meant to do.
    pub plan: Plan,
    /// When it was sent.
    pub sent: Instant,
    /// Status and head's arrival.
    pub head: Option<(u16, Instant)>,
    /// Which provider's answer it is said to be.
    pub target: Option<String>,
    /// Attempts it is said to have taken.
    pub attempts: Option<usize>,
    /// The first bytes that are no comment.
    pub content: Option<Instant>,
    /// When it was over.
    pub ended: Instant,
    /// How.
    pub end: End,
}

/// A job as its caller saw it end.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its final status.
    pub status: String,
    /// Calls to providers that it is said to have taken.
    pub attempts: usize,
    /// The result's status and bytes.
    pub result: (u16, Vec<u8>),
}

/// All of it.
#[derive(Default)]
pub struct Book {
    /// In the order of their beginning.
    pub sent: Vec<Sent>,
    /// By number.
    pub seen: BTreeMap<u64, Seen>,
    /// By the job's name.
    pub told: BTreeMap<String, Told>,
    /// Promises that were broken.
    pub faults: Vec<String>,
    /// Connections to providers that are being opened.
    pub connecting: usize,
    /// Calls that run at providers.
    pub running: usize,
    /// Where a call stands in `sent`.
    places: HashMap<u64, Vec<usize>>,
}

impl Book {
    /// How often and with what fates a call was sent so far.
    pub fn fates(&self, call: u64) -> impl Iterator<Item = Fate> {
        let places = self.places.get(&call).into_iter().flatten();
        places.map(|at| self.sent[*at].fate)
    }
}

/// The book, shared.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

impl Ledger {
    /// Opens it.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A promise was broken.
    pub fn fault(&self, what: String) {
        self.book().faults.push(what);
    }

    /// A provider got a call.
    pub fn begin(&self, call: u64, provider: usize, fate: Fate) -> Open {
        let mut book = self.book();
        let at = book.sent.len();
        book.places.entry(call).or_default().push(at);
        book.running += 1;
        book.sent.push(Sent {
            call,
            provider,
            began: Instant::now(),
            ended: None,
            fate,
            done: false,
        });
        Open(self.clone(), at)
    }

    /// A connection to a provider is being opened.
    pub fn connecting(&self) -> Connecting {
        self.book().connecting += 1;
        Connecting(self.clone())
    }
}

/// A call that runs at a provider.
pub struct Open(Ledger, usize);

impl Open {
    /// The provider's part is over.
    pub fn done(self) {
        self.0.book().sent[self.1].done = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut book = self.0.book();
        book.sent[self.1].ended = Some(Instant::now());
        book.running -= 1;
    }
}

/// A connection that is being opened.
pub struct Connecting(Ledger);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.book().connecting -= 1;
    }
}
