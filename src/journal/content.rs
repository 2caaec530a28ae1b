//! Prompts and answers of calls, for the routes whose spans are to have them.
//!
//! Promises: of a route that `traces.content` does not name nothing is kept. A text is at most
//! `content_limit`, all that are held at a time are `content_memory`; what has no room is left out
//! whole, and its span says so. Never in the access log, a metric or a line of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::messages;
use super::span::Attributes;
use crate::config::{Glob, Traces};

/// Why something was left out.
const TOO_LONG: &str = "longer than content_limit";
const NO_ROOM: &str = "content_memory is full";

/// Whose contents are kept, and how much of them.
pub struct Contents {
    routes: Box<[Glob]>,
    limit: usize,
    room: Arc<AtomicUsize>,
}

impl Contents {
    /// What a configuration wants; `None`: no route's.
    pub fn new(config: &Traces) -> Option<Self> {
        let routes = config.content.iter().map(|route| Glob::new(route));
        (!config.content.is_empty()).then(|| Self {
            routes: routes.collect(),
            limit: config.content_limit.bytes(),
            room: Arc::new(AtomicUsize::new(config.content_memory.bytes())),
        })
    }

    /// That of a call or a run of this route, where it is kept.
    pub fn of(&self, route: &str) -> Option<Box<Content>> {
        let wanted = self.routes.iter().any(|glob| glob.matches(route));
        wanted.then(|| {
            Box::new(Content {
                asked: Bytes::new(),
                answered: Some(Vec::new()),
                lacks: None,
                limit: self.limit,
                held: 0,
                room: self.room.clone(),
            })
        })
    }
}

/// What a call said, and what it was answered.
pub struct Content {
    asked: Bytes,
    /// What came so far; none once it was left out.
    answered: Option<Vec<u8>>,
    /// Why something was left out.
    lacks: Option<&'static str>,
    limit: usize,
    held: usize,
    room: Arc<AtomicUsize>,
}

impl Content {
    /// Its request's body.
    pub fn asks(&mut self, body: &Bytes) {
        if self.takes(body.len(), body.len()) {
            self.asked = body.clone();
        }
    }

    /// A piece of its answer's body; whether further ones are wanted.
    pub fn answers(&mut self, piece: &[u8]) -> bool {
        let Some(mut answered) = self.answered.take() else {
            return false;
        };
        let fits = self.takes(answered.len() + piece.len(), piece.len());
        if fits {
            answered.extend_from_slice(piece);
            self.answered = Some(answered);
        } else {
            self.gives_back(answered.len());
        }
        fits
    }

    /// Whether a text of so many bytes has room for the new ones among them.
    fn takes(&mut self, text: usize, new: usize) -> bool {
        let order = Ordering::Relaxed;
        if text > self.limit {
            self.lacks = Some(TOO_LONG);
            return false;
        }
        let taken = self
            .room
            .fetch_update(order, order, |room| room.checked_sub(new));
        if taken.is_err() {
            self.lacks = Some(NO_ROOM);
            return false;
        }
        self.held += new;
        true
    }

    fn gives_back(&mut self, bytes: usize) {
        self.held -= bytes;
        self.room.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Writes it as the conventions for generative AI have it.
    pub fn tell(&self, to: &mut Attributes) {
        let asked = messages::asked(&self.asked);
        let answered = self.answered.as_deref().and_then(messages::answered);
        let mut lacks = self.lacks;
        for (name, text) in [
            ("gen_ai.system_instructions", asked.instructions),
            ("gen_ai.input.messages", asked.messages),
            ("gen_ai.output.messages", answered),
        ] {
            match text {
                // Many messages that say nothing are longer in the conventions' words.
                Some(text) if text.len() > self.limit => lacks = Some(TOO_LONG),
                text => to.maybe(name, text.as_deref()),
            }
        }
        to.maybe("shunt.content.left_out", lacks);
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.gives_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(limit: u64, memory: u64) -> Contents {
        let config = Traces {
            content: vec!["chat".into(), "notes-*".into()],
            content_limit: crate::config::Size(limit),
            content_memory: crate::config::Size(memory),
            ..Traces::default()
        };
        Contents::new(&config).expect("some routes are named")
    }

    fn left(contents: &Contents) -> usize {
        contents.room.load(Ordering::Relaxed)
    }

    #[test]
    fn nothing_is_kept_of_a_route_that_is_not_named() {
        assert!(Contents::new(&Traces::default()).is_none());
        let contents = contents(100, 100);
        for (route, kept) in [("chat", true), ("notes-1", true), ("chats", false)] {
            assert_eq!(contents.of(route).is_some(), kept, "{route}");
        }
    }

    #[test]
    fn what_is_held_has_a_bound_and_its_room_comes_back() {
        let contents = contents(60, 100);
        let mut first = contents.of("chat").unwrap();
        first.asks(&Bytes::from(vec![b'x'; 50]));
        assert!(first.answers(&[b'y'; 40]));
        assert_eq!((first.lacks, left(&contents)), (None, 10));
        let mut second = contents.of("chat").unwrap();
        second.asks(&Bytes::from(vec![b'x'; 11]));
        assert_eq!(second.lacks, Some(NO_ROOM));
        assert!(second.asked.is_empty());
        assert!(second.answers(&[b'y'; 10]));
        assert_eq!(left(&contents), 0);
        drop(second);
        assert_eq!(left(&contents), 10);
        drop(first);
        assert_eq!(left(&contents), 100);
    }

    #[test]
    fn a_text_that_is_too_long_is_left_out_whole() {
        let contents = contents(60, 1_000);
        let mut content = contents.of("chat").unwrap();
        content.asks(&Bytes::from(vec![b'x'; 61]));
        assert!(content.asked.is_empty());
        assert!(content.answers(&[b'y'; 40]));
        assert!(!content.answers(&[b'y'; 21]));
        assert!(content.answered.is_none() && !content.answers(b"the rest"));
        assert_eq!(content.lacks, Some(TOO_LONG));
        assert_eq!(left(&contents), 1_000);
    }
}
