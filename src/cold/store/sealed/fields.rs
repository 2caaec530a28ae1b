//! Which fields are sealed, and for what.
//!
//! Promises: what is read is told apart without doubt: what would look sealed is sealed, whatever
//! the settings. Pure: no I/O.

use bytes::Bytes;

use crate::cold::background::Background;
use crate::cold::history::AttemptRecord;
use crate::cold::job::{HeaderLines, Job, JobId, StoredAnswer, StoredRequest};
use crate::cold::recall::{Became, Kept};
use crate::cold::seal::{Place, Purpose, Sealer, Unopened, looks_sealed, text_looks_sealed};
use crate::cold::store::{DeliveryOutcome, Outcome, lines};
use crate::config::Seal;

/// Seals fields and opens them.
pub struct Codec {
    sealer: Sealer,
    all: bool,
}

/// Bytes of a job's fields that may be sealed.
pub(super) fn sealed_in(job: &Job) -> usize {
    let model = job.background.as_ref().and_then(|one| one.model.as_ref());
    let url = job.callback.as_ref().map(|one| &one.url);
    let message = job.error.as_ref().map(|one| &one.message);
    [model, url, message]
        .into_iter()
        .flatten()
        .map(String::len)
        .sum()
}

/// Takes a text's sealed or open form; what does not open is told in its place.
fn or_why(text: Result<String, Unopened>, told: &mut Option<Unopened>) -> String {
    text.unwrap_or_else(|why| {
        let text = format!("[{why}]");
        told.get_or_insert(why);
        text
    })
}

impl Codec {
    /// What seals with these keys what the configuration wants sealed.
    pub fn new(sealer: Sealer, seal: Seal) -> Self {
        let all = seal == Seal::All;
        Self { sealer, all }
    }

    /// Bytes of a body that are sealed when it is kept.
    pub fn sealed_of(&self, body: &Bytes) -> usize {
        let sealed = self.all || looks_sealed(body);
        if sealed { body.len() } else { 0 }
    }

    fn text(&self, place: Place, text: String, seal: bool) -> String {
        if seal || text_looks_sealed(text.as_bytes()) {
            self.sealer.seal_text(place, text.as_bytes())
        } else {
            text
        }
    }

    fn opened_text(&self, place: Place, text: String) -> Result<String, Unopened> {
        match self.sealer.open_text(place, text.as_bytes())? {
            Some(plain) => String::from_utf8(plain).map_err(|_| Unopened::Broken),
            None => Ok(text),
        }
    }

    fn body(&self, place: Place, body: Bytes) -> Bytes {
        if self.all || looks_sealed(&body) {
            self.sealer.seal(place, &body).into()
        } else {
            body
        }
    }

    fn opened_body(&self, place: Place, body: Bytes) -> Result<Bytes, Unopened> {
        let opened = self.sealer.open(place, &body)?;
        Ok(opened.map_or(body, Bytes::from))
    }

    /// Sealed header lines are one line without a name, which no header can be.
    fn lines(&self, place: Place, lines: &HeaderLines) -> HeaderLines {
        if lines.is_empty() {
            return Vec::new();
        }
        let sealed = self.sealer.seal_text(place, &lines::to_text(lines));
        vec![(String::new(), sealed.into_bytes())]
    }

    fn opened_lines(&self, place: Place, lines: HeaderLines) -> Result<HeaderLines, Unopened> {
        let [(name, value)] = lines.as_slice() else {
            return Ok(lines);
        };
        if !name.is_empty() {
            return Ok(lines);
        }
        let opened = match self.sealer.open_text(place, value)? {
            Some(opened) => opened,
            // From a gateway that knew one key.
            None => self
                .sealer
                .open_old(place.1, value)
                .ok_or(Unopened::Broken)?,
        };
        Ok(lines::from_text(&opened))
    }

    /// A job as it is kept.
    pub fn job(&self, mut job: Job) -> Job {
        let of = job.id.as_str().as_bytes();
        if let Some(callback) = &mut job.callback {
            let url = std::mem::take(&mut callback.url);
            callback.url = self.text(Place(Purpose::CallbackUrl, of), url, self.all);
        }
        if let Some(error) = &mut job.error {
            let message = std::mem::take(&mut error.message);
            error.message = self.text(Place(Purpose::Error, of), message, self.all);
        }
        job.background = job.background.map(|told| self.background(of, told));
        job
    }

    /// A sealed shape stands where the model stood; whether a stream was asked for stays in clear.
    fn background(&self, of: &[u8], told: Background) -> Background {
        let model = told.model.as_ref().map_or(&b""[..], String::as_bytes);
        if !self.all && !text_looks_sealed(model) {
            return told;
        }
        let plain = serde_json::to_vec(&told).expect("strings and JSON can be written");
        let place = Place(Purpose::Metadata, of);
        Background {
            model: Some(self.sealer.seal_text(place, &plain)),
            metadata: None,
            stream: told.stream,
        }
    }

    fn opened_background(&self, of: &[u8], kept: Background) -> Result<Background, Unopened> {
        let model = kept.model.as_ref().map_or(&b""[..], String::as_bytes);
        match self.sealer.open_text(Place(Purpose::Metadata, of), model)? {
            Some(plain) => serde_json::from_slice(&plain).map_err(|_| Unopened::Broken),
            None => Ok(kept),
        }
    }

    /// A job in clear; where something does not open, the reason stands in its place.
    pub fn shown(&self, job: Job) -> Job {
        self.opened(job).0
    }

    /// A job in clear, and the first reason why something in it does not open.
    pub fn opened(&self, mut job: Job) -> (Job, Option<Unopened>) {
        let of = job.id.as_str().as_bytes();
        let mut told = None;
        if let Some(callback) = &mut job.callback {
            let url = std::mem::take(&mut callback.url);
            let url = self.opened_text(Place(Purpose::CallbackUrl, of), url);
            callback.url = or_why(url, &mut told);
            let error = callback.last_error.take();
            callback.last_error = error.map(|error| {
                let error = self.opened_text(Place(Purpose::CallbackError, b""), error);
                // What went wrong before holds up nothing.
                or_why(error, &mut None)
            });
        }
        if let Some(error) = &mut job.error {
            let message = std::mem::take(&mut error.message);
            let message = self.opened_text(Place(Purpose::Error, of), message);
            error.message = or_why(message, &mut told);
        }
        job.background = job.background.map(|kept| {
            let stream = kept.stream;
            let opened = self.opened_background(of, kept);
            opened.unwrap_or_else(|why| {
                let model = Some(or_why(Err(why), &mut told));
                Background {
                    model,
                    metadata: None,
                    stream,
                }
            })
        });
        (job, told)
    }

    /// A query can hold a key, as Google's does.
    pub fn request(&self, id: &JobId, request: StoredRequest) -> StoredRequest {
        let of = id.as_str().as_bytes();
        let seal_path = self.all || request.path_and_query.contains('?');
        let path = Place(Purpose::Path, of);
        StoredRequest {
            method: request.method,
            path_and_query: self.text(path, request.path_and_query, seal_path),
            headers: self.lines(Place(Purpose::RequestHeaders, of), &request.headers),
            body: self.body(Place(Purpose::RequestBody, of), request.body),
        }
    }

    /// A job's request in clear; an error where it does not open.
    pub fn opened_request(
        &self,
        id: &JobId,
        kept: StoredRequest,
    ) -> Result<StoredRequest, Unopened> {
        let of = id.as_str().as_bytes();
        Ok(StoredRequest {
            method: kept.method,
            path_and_query: self.opened_text(Place(Purpose::Path, of), kept.path_and_query)?,
            headers: self.opened_lines(Place(Purpose::RequestHeaders, of), kept.headers)?,
            body: self.opened_body(Place(Purpose::RequestBody, of), kept.body)?,
        })
    }

    /// What a run came to, as it is kept.
    pub fn outcome(&self, id: &JobId, outcome: Outcome) -> Outcome {
        let of = id.as_str().as_bytes();
        let purposes = (Purpose::AnswerHeaders, Purpose::AnswerBody);
        let error = outcome.error.map(|mut error| {
            error.message = self.text(Place(Purpose::Error, of), error.message, self.all);
            error
        });
        Outcome {
            status: outcome.status,
            answer: outcome
                .answer
                .map(|answer| self.answer(purposes, of, answer)),
            error,
        }
    }

    fn answer(
        &self,
        (headers, body): (Purpose, Purpose),
        of: &[u8],
        answer: StoredAnswer,
    ) -> StoredAnswer {
        StoredAnswer {
            status: answer.status,
            headers: self.lines(Place(headers, of), &answer.headers),
            body: self.body(Place(body, of), answer.body),
            // The lengths of tokens tell of their words.
            timing: self.text(Place(Purpose::AnswerTiming, of), answer.timing, self.all),
        }
    }

    fn opened_of(
        &self,
        (headers, body): (Purpose, Purpose),
        of: &[u8],
        kept: StoredAnswer,
    ) -> Result<StoredAnswer, Unopened> {
        Ok(StoredAnswer {
            status: kept.status,
            headers: self.opened_lines(Place(headers, of), kept.headers)?,
            body: self.opened_body(Place(body, of), kept.body)?,
            timing: self.opened_text(Place(Purpose::AnswerTiming, of), kept.timing)?,
        })
    }

    /// A job's answer in clear; an error where it does not open.
    pub fn opened_answer(&self, id: &JobId, kept: StoredAnswer) -> Result<StoredAnswer, Unopened> {
        let purposes = (Purpose::AnswerHeaders, Purpose::AnswerBody);
        self.opened_of(purposes, id.as_str().as_bytes(), kept)
    }

    /// A delivery is known by its own name only, so its errors are bound to none.
    pub fn delivered(&self, outcome: DeliveryOutcome) -> DeliveryOutcome {
        let seal = |error| self.text(Place(Purpose::CallbackError, b""), error, self.all);
        match outcome {
            DeliveryOutcome::Delivered => DeliveryOutcome::Delivered,
            DeliveryOutcome::Later { at, error } => DeliveryOutcome::Later {
                at,
                error: seal(error),
            },
            DeliveryOutcome::PutOff { at, why } => DeliveryOutcome::PutOff {
                at,
                why: why.map(seal),
            },
            DeliveryOutcome::Dead { at, error } => DeliveryOutcome::Dead {
                at,
                error: seal(error),
            },
        }
    }

    /// The history of a job's attempts, as it is kept.
    pub fn records(&self, id: &JobId, records: Vec<AttemptRecord>) -> Vec<AttemptRecord> {
        let place = Place(Purpose::History, id.as_str().as_bytes());
        let seal = |mut record: AttemptRecord| {
            let error = record.error.take();
            record.error = error.map(|error| self.text(place, error, self.all));
            record
        };
        records.into_iter().map(seal).collect()
    }

    /// A job's history in clear; where something does not open, the reason stands in its place.
    pub fn shown_records(&self, id: &JobId, kept: Vec<AttemptRecord>) -> Vec<AttemptRecord> {
        let place = Place(Purpose::History, id.as_str().as_bytes());
        let open = |mut record: AttemptRecord| {
            let error = record.error.take();
            let open = |error| or_why(self.opened_text(place, error), &mut None);
            record.error = error.map(open);
            record
        };
        kept.into_iter().map(open).collect()
    }

    /// The answer of an idempotency key, as it is kept.
    pub fn kept(&self, mut kept: Kept) -> Kept {
        if let Became::Answer(answer) = kept.what {
            let purposes = (Purpose::KeptHeaders, Purpose::KeptBody);
            kept.what = Became::Answer(self.answer(purposes, &kept.key.name, answer));
        }
        kept
    }

    /// The same in clear; an error where it does not open.
    pub fn opened_kept(&self, mut kept: Kept) -> Result<Kept, Unopened> {
        if let Became::Answer(answer) = kept.what {
            let purposes = (Purpose::KeptHeaders, Purpose::KeptBody);
            let answer = self.opened_of(purposes, &kept.key.name, answer)?;
            kept.what = Became::Answer(answer);
        }
        Ok(kept)
    }
}
