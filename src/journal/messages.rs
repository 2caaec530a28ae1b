//! What a request and its answer say, as messages of OpenTelemetry's conventions for generative AI
//! (`gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions`: JSON, each message
//! a role and its parts).
//!
//! Promises: reads Chat Completions, Completions, Responses and Messages, whole or streamed; of a form
//! that it does not know it tells nothing. Pictures, sounds and files are named, their bytes never told.
//! Nothing that is said makes it grow past a text's limit: what would is no text.

mod list;
mod parts;
mod streamed;

use serde_json::{Value, json};

use self::list::list;
pub use self::list::{Text, TooLong};
use self::parts::{called, of_item, parts, tool_said};

/// What a request says: its instructions, where they stand apart, and its messages.
pub fn asked(body: &[u8], limit: usize) -> (Text, Text) {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return (Ok(None), Ok(None));
    };
    let apart = body.get("system").or_else(|| body.get("instructions"));
    let apart = apart.into_iter().flat_map(parts);
    (list(apart, limit), messages_of(&body, limit))
}

fn messages_of(body: &Value, limit: usize) -> Text {
    let said = ["messages", "input", "prompt"];
    let Some(said) = said.iter().find_map(|name| body.get(name)) else {
        return Ok(None);
    };
    match said {
        // Texts alone, as Completions has them.
        Value::Array(all) if all.iter().any(Value::is_object) => {
            list(all.iter().filter(|one| one.is_object()).map(message), limit)
        }
        said => {
            let parts = parts(said);
            let user = (!parts.is_empty()).then(|| json!({"role": "user", "parts": parts}));
            list(user, limit)
        }
    }
}

/// A message of any of the APIs, or one of Responses' items, which are calls of tools and their words as
/// well.
fn message(one: &Value) -> Value {
    let role = one["role"].as_str();
    match (role, one["type"].as_str()) {
        (Some("tool"), _) => {
            let parts = [tool_said(&one["tool_call_id"], &one["content"])];
            json!({"role": "tool", "parts": parts})
        }
        (Some(role), _) => json!({"role": role, "parts": said(one)}),
        (None, Some("function_call_output")) => json!({"role": "tool", "parts": of_item(one)}),
        (None, Some("function_call" | "reasoning")) => {
            json!({"role": "assistant", "parts": of_item(one)})
        }
        (None, _) => json!({"role": "user", "parts": of_item(one)}),
    }
}

/// The parts of a message, what was thought before it, and the tools that it calls.
fn said(message: &Value) -> Vec<Value> {
    let thought = message["reasoning_content"].as_str();
    let thought = thought.map(|text| json!({"type": "reasoning", "content": text}));
    let refusal = message["refusal"].as_str();
    let refusal = refusal.map(|text| json!({"type": "text", "content": text}));
    let tools = message["tool_calls"].as_array().into_iter().flatten();
    let tools = tools.map(|tool| {
        let function = &tool["function"];
        called(&tool["id"], &function["name"], &function["arguments"])
    });
    let said = parts(&message["content"]);
    thought
        .into_iter()
        .chain(said)
        .chain(refusal)
        .chain(tools)
        .collect()
}

/// What an answer says: JSON, or a stream of events.
pub fn answered(answer: &[u8], limit: usize) -> Text {
    if answer.is_empty() {
        return Ok(None);
    }
    let whole = serde_json::from_slice::<Value>(answer);
    let whole = whole.unwrap_or_else(|_| streamed::whole(answer));
    if let Some(choices) = whole["choices"].as_array() {
        return list(choices.iter().map(choice), limit);
    }
    if let Some(output) = whole["output"].as_array() {
        let why = whole["incomplete_details"]["reason"].as_str();
        let why = why.or_else(|| whole["status"].as_str());
        let parts = output.iter().flat_map(of_item).collect();
        return list([assistant(parts, why)], limit);
    }
    if whole["type"] == "message" {
        let parts = parts(&whole["content"]);
        return list([assistant(parts, whole["stop_reason"].as_str())], limit);
    }
    Ok(None)
}

fn choice(one: &Value) -> Value {
    let parts = match one.get("message") {
        Some(message) => said(message),
        None => parts(&one["text"]),
    };
    assistant(parts, one["finish_reason"].as_str())
}

/// A message of the model's; why it ended, in the conventions' words where they have one. Where nothing
/// said why it broke off.
fn assistant(parts: Vec<Value>, why: Option<&str>) -> Value {
    let calls = parts.iter().any(|part| part["type"] == "tool_call");
    let why = match why.unwrap_or_default() {
        "completed" if calls => "tool_call",
        "end_turn" | "stop_sequence" | "completed" => "stop",
        "max_tokens" | "max_output_tokens" => "length",
        "tool_calls" | "tool_use" | "function_call" => "tool_call",
        "refusal" => "content_filter",
        "failed" | "" => "error",
        other => other,
    };
    let mut message = json!({"role": "assistant", "finish_reason": why});
    message["parts"] = Value::Array(parts);
    message
}

#[cfg(test)]
mod tests;
