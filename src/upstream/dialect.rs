//! What providers say in their own API: which event carries content, how many tokens were used.
//!
//! First token means the first event with text, reasoning or a tool call: not the head of the
//! answer, not `ping`, not a comment, not an empty role delta. Promises: builds no tree, keeps
//! nothing. Never changes what passes.

mod model;
mod quick;

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub use self::model::{Answers, answers};
pub use self::quick::is_content;
use crate::config::Dialect;

/// What an event said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// It carries text, reasoning or a tool call.
    pub content: bool,
    /// It reports an error.
    pub error: bool,
    /// It is the last of an answer that is whole, or the last but for what is told of its tokens.
    pub end: bool,
    /// Tokens it told.
    pub usage: Usage,
}

/// Tokens that a provider told; the names of both APIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Read by the model.
    #[serde(alias = "input_tokens")]
    pub prompt_tokens: Option<u64>,
    /// Written by it.
    #[serde(alias = "output_tokens")]
    pub completion_tokens: Option<u64>,
}

impl Usage {
    /// What a later event says stands.
    pub fn update(&mut self, later: Self) {
        self.prompt_tokens = later.prompt_tokens.or(self.prompt_tokens);
        self.completion_tokens = later.completion_tokens.or(self.completion_tokens);
    }
}

/// Reads the payload of a `data:` line. An empty one is none: no client is told of it (WHATWG HTML 9.2.6).
pub fn event(dialect: Dialect, payload: &[u8]) -> Event {
    if payload.is_empty() {
        return Event::default();
    }
    if is_content(dialect, payload) {
        return Event {
            content: true,
            ..Event::default()
        };
    }
    parsed(dialect, payload)
}

/// The same, by parsing it.
pub fn parsed(dialect: Dialect, payload: &[u8]) -> Event {
    match dialect {
        Dialect::Openai => openai(payload),
        Dialect::Anthropic => anthropic(payload),
        Dialect::Plain => Event {
            content: !payload.is_empty(),
            ..Event::default()
        },
    }
}

fn openai(payload: &[u8]) -> Event {
    let Ok(chunk) = serde_json::from_slice::<OpenaiChunk>(payload) else {
        // `[DONE]` is no content; anything else that is not JSON is passed on as if it were.
        let end = payload == b"[DONE]";
        return Event {
            content: !end,
            end,
            ..Event::default()
        };
    };
    let kind = chunk.kind.as_deref().unwrap_or_default();
    let choices = chunk.choices.unwrap_or_default();
    let content =
        kind.ends_with(".delta") && chunk.delta.0 || choices.iter().any(Choice::has_content);
    let end = matches!(kind, "response.completed" | "response.incomplete")
        || choices.iter().any(|choice| choice.finish_reason.0);
    let usage = chunk
        .usage
        .or(chunk.response.and_then(|response| response.usage));
    Event {
        content,
        error: chunk.error.0 || matches!(kind, "error" | "response.failed"),
        end,
        usage: usage.unwrap_or_default(),
    }
}

fn anthropic(payload: &[u8]) -> Event {
    let Ok(chunk) = serde_json::from_slice::<AnthropicChunk>(payload) else {
        return Event {
            content: true,
            ..Event::default()
        };
    };
    let kind = chunk.kind.as_deref().unwrap_or_default();
    let content = match kind {
        "content_block_delta" => chunk.delta.is_some_and(|delta| delta.has_content()),
        "content_block_start" => chunk.content_block.is_some_and(|block| {
            block
                .kind
                .as_deref()
                .is_some_and(|kind| kind.ends_with("tool_use"))
        }),
        _ => false,
    };
    let usage = chunk
        .usage
        .or(chunk.message.and_then(|message| message.usage));
    Event {
        content,
        error: kind == "error",
        end: kind == "message_stop",
        usage: usage.unwrap_or_default(),
    }
}

#[derive(Deserialize)]
struct OpenaiChunk<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    delta: Present,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    response: Option<Holder>,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
struct Holder {
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<ChatDelta>,
    #[serde(default)]
    text: Present,
    #[serde(default)]
    finish_reason: Present,
}

#[derive(Deserialize)]
struct ChatDelta {
    #[serde(default)]
    content: Present,
    #[serde(default)]
    reasoning_content: Present,
    #[serde(default)]
    reasoning: Present,
    #[serde(default)]
    tool_calls: Present,
    #[serde(default)]
    function_call: Present,
    #[serde(default)]
    refusal: Present,
    #[serde(default)]
    audio: Present,
}

impl Choice {
    fn has_content(&self) -> bool {
        self.text.0
            || self.delta.as_ref().is_some_and(|delta| {
                [
                    &delta.content,
                    &delta.reasoning_content,
                    &delta.reasoning,
                    &delta.tool_calls,
                    &delta.function_call,
                    &delta.refusal,
                    &delta.audio,
                ]
                .into_iter()
                .any(|part| part.0)
            })
    }
}

#[derive(Deserialize)]
struct AnthropicChunk<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    delta: Option<BlockDelta>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    message: Option<Holder>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct BlockDelta {
    #[serde(default)]
    text: Present,
    #[serde(default)]
    thinking: Present,
    #[serde(default)]
    partial_json: Present,
}

impl BlockDelta {
    fn has_content(&self) -> bool {
        self.text.0 || self.thinking.0 || self.partial_json.0
    }
}

/// Whether a value says anything: a string, list or object that is not empty, or a number.
#[derive(Clone, Copy, Debug, Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(PresentVisitor)
    }
}

struct PresentVisitor;

impl<'de> Visitor<'de> for PresentVisitor {
    type Value = Present;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Present, E> {
        Ok(Present(!text.is_empty()))
    }

    fn visit_unit<E>(self) -> Result<Present, E> {
        Ok(Present(false))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Present, E> {
        Ok(Present(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Present, E> {
        Ok(Present(true))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Present, E> {
        Ok(Present(true))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Present, E> {
        Ok(Present(true))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Present, A::Error> {
        let mut any = false;
        while all.next_element::<IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(Present(any))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Present, A::Error> {
        let mut any = false;
        while all.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(Present(any))
    }
}

#[cfg(test)]
mod tests;
