//! A stream of events as the answer that would have come whole.
//!
//! Promises: of a stream that broke off the texts, and the calls of tools that came whole, are there.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::upstream::sse::{Lines, data};

/// What the events of a stream tell together.
pub fn whole(events: &[u8]) -> Value {
    let mut told = Told::default();
    let mut take = |line: &[u8]| {
        if let Some(Ok(event)) = data(line).map(serde_json::from_slice::<Value>) {
            told.take(&event);
        }
    };
    let mut lines = Lines::default();
    lines.feed(events, &mut take);
    // The last line may lack its end.
    lines.feed(b"\n", &mut take);
    told.whole()
}

/// What was told so far.
#[derive(Default)]
struct Told {
    /// Choices of Chat Completions and of Completions.
    choices: BTreeMap<u64, Choice>,
    /// Blocks of Messages, and why those ended.
    blocks: BTreeMap<u64, Block>,
    stop: Value,
    /// Items of Responses that are whole, the text of the one that is not, and the last word.
    items: Vec<Value>,
    text: String,
    response: Value,
}

#[derive(Default)]
struct Choice {
    thought: String,
    said: String,
    refusal: String,
    tools: BTreeMap<u64, Tool>,
    finish: Value,
}

#[derive(Default)]
struct Tool {
    id: Value,
    name: Value,
    arguments: String,
}

struct Block {
    begun: Value,
    more: String,
}

fn add(to: &mut String, more: &Value) {
    to.push_str(more.as_str().unwrap_or_default());
}

fn index(of: &Value) -> u64 {
    of["index"].as_u64().unwrap_or(0)
}

impl Told {
    fn take(&mut self, event: &Value) {
        for choice in event["choices"].as_array().into_iter().flatten() {
            self.choices.entry(index(choice)).or_default().take(choice);
        }
        match event["type"].as_str().unwrap_or_default() {
            "content_block_start" => {
                let (begun, more) = (event["content_block"].clone(), String::new());
                self.blocks.insert(index(event), Block { begun, more });
            }
            "content_block_delta" => {
                if let Some(block) = self.blocks.get_mut(&index(event)) {
                    let delta = &event["delta"];
                    for name in ["text", "thinking", "partial_json"] {
                        add(&mut block.more, &delta[name]);
                    }
                }
            }
            "message_delta" => self.stop = event["delta"]["stop_reason"].clone(),
            "response.output_text.delta" => add(&mut self.text, &event["delta"]),
            "response.output_item.done" => {
                self.items.push(event["item"].clone());
                self.text.clear();
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.response = event["response"].clone();
            }
            _ => {}
        }
    }

    fn whole(mut self) -> Value {
        if !self.choices.is_empty() {
            let choices: Vec<_> = self.choices.into_values().map(Choice::whole).collect();
            return json!({"choices": choices});
        }
        if !self.blocks.is_empty() {
            let blocks: Vec<_> = self.blocks.into_values().map(Block::whole).collect();
            return json!({"type": "message", "content": blocks, "stop_reason": self.stop});
        }
        if !self.text.is_empty() {
            let said = json!({"type": "output_text", "text": self.text});
            self.items
                .push(json!({"type": "message", "content": [said]}));
        }
        let output = self.response["output"].as_array();
        if output.is_none_or(Vec::is_empty) && !self.items.is_empty() {
            let (status, why) = (
                &self.response["status"],
                &self.response["incomplete_details"],
            );
            return json!({"output": self.items, "status": status, "incomplete_details": why});
        }
        self.response
    }
}

impl Choice {
    fn take(&mut self, choice: &Value) {
        let delta = &choice["delta"];
        add(&mut self.thought, &delta["reasoning_content"]);
        add(&mut self.said, &delta["content"]);
        add(&mut self.said, &choice["text"]);
        add(&mut self.refusal, &delta["refusal"]);
        for tool in delta["tool_calls"].as_array().into_iter().flatten() {
            let known = self.tools.entry(index(tool)).or_default();
            // Some tell both with each piece.
            if known.id.is_null() {
                known.id = tool["id"].clone();
            }
            if known.name.is_null() {
                known.name = tool["function"]["name"].clone();
            }
            add(&mut known.arguments, &tool["function"]["arguments"]);
        }
        if !choice["finish_reason"].is_null() {
            self.finish = choice["finish_reason"].clone();
        }
    }

    fn whole(self) -> Value {
        let maybe = |text: String| Some(text).filter(|text| !text.is_empty());
        let tools = self.tools.into_values().map(|tool| {
            let function = json!({"name": tool.name, "arguments": tool.arguments});
            json!({"id": tool.id, "function": function})
        });
        let message = json!({
            "reasoning_content": maybe(self.thought),
            "content": maybe(self.said),
            "refusal": maybe(self.refusal),
            "tool_calls": tools.collect::<Vec<_>>(),
        });
        json!({"message": message, "finish_reason": self.finish})
    }
}

impl Block {
    /// Its beginning with all that came after it.
    fn whole(mut self) -> Value {
        let name = match self.begun["type"].as_str() {
            Some("text") => "text",
            Some("thinking") => "thinking",
            // It begins as an empty object; what comes is JSON in pieces.
            Some("tool_use") => "input",
            _ => return self.begun,
        };
        if !self.more.is_empty() {
            let begun = self.begun[name].as_str().unwrap_or_default();
            self.begun[name] = Value::String(begun.to_owned() + &self.more);
        }
        self.begun
    }
}
