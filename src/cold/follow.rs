//! Follows a job to its end: its states, and the events of its stream as they come.
//!
//! Promises: each event once and in order; one who comes back goes on where it stood, or is told
//! that all begins again; holds at most a piece of what runs, and the answer once it is finished.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::cursor::{Place, event_length};
use super::job::{Job, JobId, StoredAnswer, header_map};
use super::runner::Runner;
use super::runner::reading::Held;
use super::store::StoreError;
use super::tape::Tape;
use super::timing::Timing;
use crate::upstream::media::is_event_stream;

/// What a reader meets.
pub enum Step {
    /// The job stands otherwise than before.
    Status(Box<Job>),
    /// The next event of its stream; from the store, and so long after its call was sent it came.
    Event(Bytes, Option<Duration>),
    /// Another attempt took the place of the one that was read: all begins again.
    Restart,
    /// Nothing for a while.
    Quiet,
    /// The job is finished; the last step.
    End(Box<Job>),
}

/// After such a silence a reader hears that the connection lives.
const QUIET: Duration = Duration::from_secs(15);

/// The store is looked at so often, for what other gateways do.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes taken at a time.
const PIECE: usize = 64 << 10;

/// Whether an answer's bytes are events that can be told apart.
pub fn is_readable(headers: &HeaderMap) -> bool {
    is_event_stream(headers) && !headers.contains_key(CONTENT_ENCODING)
}

/// A reader of a job.
pub struct Follow {
    runner: Arc<Runner>,
    id: JobId,
    tape: Arc<Tape>,
    changed: watch::Receiver<u64>,
    /// Changes of the state that were looked at; `None`: none yet.
    looked: Option<u64>,
    /// Where the reader stands.
    pub place: Place,
    take: u64,
    begun: bool,
    pending: BytesMut,
    timing: Timing,
    /// Room for what is pending of a stored answer.
    held: Held,
    /// The end, once all before it is there to be passed on.
    end: Option<Box<Job>>,
    over: bool,
    told: Instant,
}

impl Follow {
    /// A reader that stands at `place`.
    pub fn new(runner: Arc<Runner>, id: JobId, place: Place) -> Self {
        let tape = runner.tapes().of(&id);
        Self {
            changed: tape.watch(),
            looked: None,
            place,
            take: 0,
            begun: false,
            pending: BytesMut::new(),
            timing: Timing::default(),
            held: None,
            end: None,
            over: false,
            told: Instant::now(),
            runner,
            id,
            tape,
        }
    }

    /// The next step; `None` after the last, or when the gateway stops.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn next(&mut self) -> Result<Option<Step>, StoreError> {
        while !self.over {
            let step = self.step().await?;
            if step.is_some() {
                self.told = Instant::now();
                return Ok(step);
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Option<Step>, StoreError> {
        if let Some(length) = event_length(&self.pending) {
            return Ok(Some(self.event(length)));
        }
        if self.end.is_some() {
            if !self.pending.is_empty() {
                return Ok(Some(self.event(self.pending.len())));
            }
            self.over = true;
            let end = self
                .end
                .take()
                .inspect(|job| self.place.status = Some(job.status));
            return Ok(end.map(Step::End));
        }
        let changes = *self.changed.borrow_and_update();
        // The state is told first; from then on bytes before the change that came after them.
        if self.looked.is_some() {
            if self.begins_again() {
                return Ok(Some(Step::Restart));
            }
            if self.read() {
                return Ok(None);
            }
        }
        if self.looked != Some(changes) {
            self.looked = Some(changes);
            return self.look().await;
        }
        Ok(self.wait().await)
    }

    fn event(&mut self, length: usize) -> Step {
        let event = self.pending.split_to(length).freeze();
        self.place.pass(&event);
        let came = self.timing.of(self.place.read);
        Step::Event(event, came)
    }

    /// Whether what was read is no longer what the tape holds.
    fn begins_again(&mut self) -> bool {
        let (void, take) = if self.begun {
            let take = self.tape.after(self.take, usize::MAX).take;
            (take != self.take, take)
        } else {
            let all = self.tape.after(u64::MAX, 0);
            if all.chunks.is_empty() && self.place.read > 0 {
                // It may run on another gateway; the stored answer says what is known.
                self.take = all.take;
                return false;
            }
            self.begun = true;
            let known = self.place.read == 0 || self.place.is_within(&all.chunks.concat());
            (!known, all.take)
        };
        self.take = take;
        let began = void && self.place.read > 0;
        if void {
            self.pending.clear();
            self.place.rewind();
        }
        began
    }

    /// Takes a piece of what is new on the tape; whether there was any.
    fn read(&mut self) -> bool {
        if !self.begun {
            return false;
        }
        let from = self.place.read + self.pending.len();
        let news = self.tape.after(self.take, from);
        // Another attempt's bytes are not read before they are told to be.
        if news.take != self.take {
            return true;
        }
        let before = self.pending.len();
        for chunk in news.chunks {
            self.pending.extend_from_slice(&chunk);
            if self.pending.len() - before >= PIECE {
                break;
            }
        }
        self.pending.len() > before
    }

    /// Looks where the job stands.
    async fn look(&mut self) -> Result<Option<Step>, StoreError> {
        let Some(job) = self.runner.store().get(&self.id).await? else {
            self.over = true;
            return Ok(None);
        };
        if !job.status.is_final() {
            let news = self.place.status != Some(job.status);
            self.place.status = Some(job.status);
            return Ok(news.then(|| Step::Status(Box::new(job))));
        }
        self.runner.tapes().finished(&self.id);
        // Emptied first: what waits for room holds none.
        self.pending = BytesMut::new();
        let answer = self.runner.read_answer(&self.id).await?;
        self.end = Some(Box::new(job));
        Ok(answer.and_then(|(answer, held)| {
            self.held = held;
            self.replay(answer)
        }))
    }

    /// What is left of the answer is still to be passed on.
    fn replay(&mut self, answer: StoredAnswer) -> Option<Step> {
        if !is_readable(&header_map(&answer.headers)) {
            return None;
        }
        self.timing = Timing::from_text(&answer.timing);
        let mut body = answer.body;
        if self.place.is_within(&body) {
            self.pending = BytesMut::from(body.split_off(self.place.read));
            return None;
        }
        self.place.rewind();
        self.pending = BytesMut::from(body);
        Some(Step::Restart)
    }

    /// Waits for what comes.
    async fn wait(&mut self) -> Option<Step> {
        let quiet = self.told + QUIET;
        let until = quiet.min(Instant::now() + LOOK);
        let stop = self.runner.stop().clone();
        tokio::select! {
            () = stop.raised() => self.over = true,
            woken = timeout_at(until, self.changed.changed()) => {
                if woken.is_err() {
                    self.looked = Some(u64::MAX);
                }
            }
        }
        (Instant::now() >= quiet).then_some(Step::Quiet)
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.runner.tapes().left(&self.id, &self.tape);
    }
}
