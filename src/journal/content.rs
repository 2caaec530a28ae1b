//! Prompts and answers of calls, for the routes whose spans are to have them.
//!
//! Promises: of a route that `traces.content` does not name nothing is kept. A text is at most
//! `content_limit`, all that are held at a time are `content_memory`; what has no room is left out
//! whole, and its span says so. Never in the access log, a metric or a line of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::messages::{self, Text, TooLong};
use super::span::Attributes;
use crate::config::{Glob, Traces};

/// Why a text was left out.
const TOO_LONG: &str = "longer than content_limit";
const NO_ROOM: &str = "content_memory is full";
const UNREAD: &str = "passed on unread";
const COMPRESSED: &str = "compressed";

/// Whose contents are kept.
pub struct Contents {
    routes: Box<[Glob]>,
    room: Arc<Room>,
}

/// How much of them.
struct Room {
    limit: usize,
    left: AtomicUsize,
}

impl Contents {
    /// What a configuration wants; `None`: no route's.
    pub fn new(config: &Traces) -> Option<Self> {
        let routes = config.content.iter().map(|route| Glob::new(route));
        (!config.content.is_empty()).then(|| Self {
            routes: routes.collect(),
            room: Arc::new(Room {
                limit: config.content_limit.bytes(),
                left: AtomicUsize::new(config.content_memory.bytes()),
            }),
        })
    }

    /// That of a call or a run of this route, where it is kept.
    pub fn of(&self, route: &str) -> Option<Box<Content>> {
        let wanted = self.routes.iter().any(|glob| glob.matches(route));
        wanted.then(|| {
            Box::new(Content {
                asked: Held::new(&self.room),
                answered: Held::new(&self.room),
            })
        })
    }
}

/// What a call said, and what it was answered.
pub struct Content {
    asked: Held,
    answered: Held,
}

impl Content {
    /// Its request's body; `None`: it passed on as it came.
    pub fn asks(&mut self, body: Option<&[u8]>) {
        match body {
            Some(body) => _ = self.asked.add(body),
            None => self.asked.leave_out(UNREAD),
        }
    }

    /// Its answer is compressed.
    pub fn is_compressed(&mut self) {
        self.answered.leave_out(COMPRESSED);
    }

    /// A piece of its answer's body; whether further ones are wanted.
    pub fn answers(&mut self, piece: &[u8]) -> bool {
        self.answered.add(piece)
    }

    /// How much is to be read before it is told.
    pub fn bytes(&self) -> usize {
        self.asked.bytes() + self.answered.bytes()
    }

    /// Writes it as the conventions for generative AI have it.
    pub fn tell(&self, to: &mut Attributes) {
        let mut left_out = Vec::new();
        let mut tell = |what, name, text: Result<Text, &str>| match text {
            Ok(Ok(text)) => to.maybe(name, text.as_deref()),
            Ok(Err(TooLong)) => left_out.push(format!("{what}: {TOO_LONG}")),
            Err(why) => left_out.push(format!("{what}: {why}")),
        };
        let (limit, asked) = (self.asked.room.limit, self.asked.text.as_deref());
        match asked.map(|text| messages::asked(text, limit)) {
            Ok((instructions, messages)) => {
                tell("prompt", "gen_ai.system_instructions", Ok(instructions));
                tell("prompt", "gen_ai.input.messages", Ok(messages));
            }
            Err(why) => tell("prompt", "gen_ai.input.messages", Err(why)),
        }
        let answered = self.answered.text.as_deref();
        let answered = answered.map(|text| messages::answered(text, limit));
        tell(
            "answer",
            "gen_ai.output.messages",
            answered.map_err(|why| *why),
        );
        if !left_out.is_empty() {
            to.text("shunt.content.left_out", &left_out.join(", "));
        }
    }
}

/// A text that is held, or why it is not.
struct Held {
    text: Result<Vec<u8>, &'static str>,
    room: Arc<Room>,
}

impl Held {
    fn new(room: &Arc<Room>) -> Self {
        let room = room.clone();
        Self {
            text: Ok(Vec::new()),
            room,
        }
    }

    fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, Vec::len)
    }

    /// Whether it is held with that.
    fn add(&mut self, more: &[u8]) -> bool {
        let Ok(text) = &mut self.text else {
            return false;
        };
        if text.len() + more.len() > self.room.limit {
            self.leave_out(TOO_LONG);
        } else if self.room.takes(more.len()) {
            text.extend_from_slice(more);
            return true;
        } else {
            self.leave_out(NO_ROOM);
        }
        false
    }

    fn leave_out(&mut self, why: &'static str) {
        self.room.gets_back(self.bytes());
        self.text = Err(why);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.gets_back(self.bytes());
    }
}

impl Room {
    fn takes(&self, bytes: usize) -> bool {
        let order = Ordering::Relaxed;
        let rest = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(order, order, rest).is_ok()
    }

    fn gets_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    fn contents(limit: u64, memory: u64) -> Contents {
        let config = Traces {
            content: vec!["chat".into(), "notes-*".into()],
            content_limit: Size(limit),
            content_memory: Size(memory),
            ..Traces::default()
        };
        Contents::new(&config).expect("some routes are named")
    }

    fn left(contents: &Contents) -> usize {
        contents.room.left.load(Ordering::Relaxed)
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
        first.asks(Some(&[b'x'; 50]));
        assert!(first.answers(&[b'y'; 40]));
        assert_eq!((first.bytes(), left(&contents)), (90, 10));
        let mut second = contents.of("chat").unwrap();
        second.asks(Some(&[b'x'; 11]));
        assert_eq!(second.asked.text, Err(NO_ROOM));
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
        content.asks(Some(&[b'x'; 61]));
        assert_eq!(content.asked.text, Err(TOO_LONG));
        assert!(content.answers(&[b'y'; 40]));
        assert!(!content.answers(&[b'y'; 21]));
        assert!(!content.answers(b"the rest"));
        assert_eq!(content.answered.text, Err(TOO_LONG));
        assert_eq!(left(&contents), 1_000);
    }
}
