//! What a request and its answer say, as messages of OpenTelemetry's conventions for generative AI
//! (`gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions`: JSON, each message
//! a role and its parts).
//!
//! Promises: reads Chat Completions, Completions, Responses and Messages, also as streams; of a form
//! that it does not know it tells nothing. Pictures, sounds and files are named, their bytes never told.

mod parts;
mod streamed;

use serde_json::{Value, json};

use self::parts::{called, in_parts};

/// What a request says.
#[derive(Default)]
pub struct Asked {
    pub instructions: Option<String>,
    pub messages: Option<String>,
}

fn text(list: Vec<Value>) -> Option<String> {
    (!list.is_empty()).then(|| Value::Array(list).to_string())
}

/// What the body of a request says.
pub fn asked(body: &[u8]) -> Asked {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return Asked::default();
    };
    let given = body.get("system").or_else(|| body.get("instructions"));
    Asked {
        instructions: given.and_then(|given| text(in_parts(given))),
        messages: text(
            match (body.get("messages"), body.get("input"), body.get("prompt")) {
                (Some(Value::Array(all)), ..) => all.iter().map(message).collect(),
                (_, Some(Value::Array(all)), _) => all.iter().map(item).collect(),
                (_, Some(one @ Value::String(_)), _) | (.., Some(one)) => vec![user(one)],
                _ => Vec::new(),
            },
        ),
    }
}

fn user(said: &Value) -> Value {
    json!({"role": "user", "parts": in_parts(said)})
}

/// A message of Chat Completions or Messages.
fn message(one: &Value) -> Value {
    let role = one["role"].as_str().unwrap_or("user");
    let parts = if role == "tool" {
        vec![parts::tool_said(&one["tool_call_id"], &one["content"])]
    } else {
        said(one)
    };
    json!({"role": role, "parts": parts})
}

/// The parts of a message, and the tools that it calls.
fn said(message: &Value) -> Vec<Value> {
    let mut parts = in_parts(&message["content"]);
    let tools = message["tool_calls"].as_array().into_iter().flatten();
    parts.extend(tools.map(|tool| {
        let function = &tool["function"];
        called(&tool["id"], &function["name"], &function["arguments"])
    }));
    if let Some(refusal) = message["refusal"].as_str() {
        parts.push(json!({"type": "text", "content": refusal}));
    }
    parts
}

/// One of Responses' items, which are messages, calls of tools and what those said.
fn item(one: &Value) -> Value {
    let role = match one["type"].as_str() {
        Some("function_call" | "reasoning") => "assistant",
        Some("function_call_output") => "tool",
        _ => one["role"].as_str().unwrap_or("user"),
    };
    json!({"role": role, "parts": parts::of_item(one)})
}

/// What an answer says: JSON, or a stream of events.
pub fn answered(answer: &[u8]) -> Option<String> {
    if answer.is_empty() {
        return None;
    }
    let whole = serde_json::from_slice::<Value>(answer);
    let whole = whole.unwrap_or_else(|_| streamed::whole(answer));
    text(messages(&whole))
}

fn messages(answer: &Value) -> Vec<Value> {
    if let Some(choices) = answer["choices"].as_array() {
        return choices.iter().map(choice).collect();
    }
    if let Some(output) = answer["output"].as_array() {
        let parts: Vec<_> = output.iter().flat_map(parts::of_item).collect();
        let why = answer["incomplete_details"]["reason"].as_str();
        let why = why.or_else(|| answer["status"].as_str());
        return vec![assistant(&parts, why)];
    }
    if answer["type"] == "message" {
        let parts = in_parts(&answer["content"]);
        return vec![assistant(&parts, answer["stop_reason"].as_str())];
    }
    Vec::new()
}

fn choice(one: &Value) -> Value {
    let parts = match one.get("message") {
        Some(message) => said(message),
        None => in_parts(&one["text"]),
    };
    assistant(&parts, one["finish_reason"].as_str())
}

/// A message of the model's; why it ended, in the conventions' words where they have one.
fn assistant(parts: &[Value], why: Option<&str>) -> Value {
    let why = match why.unwrap_or_default() {
        "end_turn" | "stop_sequence" | "completed" => "stop",
        "max_tokens" | "max_output_tokens" => "length",
        "tool_calls" | "tool_use" | "function_call" => "tool_call",
        "refusal" => "content_filter",
        "failed" | "" => "error",
        other => other,
    };
    json!({"role": "assistant", "parts": parts, "finish_reason": why})
}

#[cfg(test)]
mod tests;
