//! Parts of messages: texts, thoughts, calls of tools and what those said, and things that are only
//! named.

use serde_json::{Value, json};

/// What is said, which is a text or a list of blocks.
pub fn in_parts(said: &Value) -> Vec<Value> {
    match said {
        Value::String(text) => vec![json!({"type": "text", "content": text})],
        Value::Array(blocks) => blocks.iter().map(part).collect(),
        _ => Vec::new(),
    }
}

/// One block of OpenAI's or Anthropic's.
fn part(block: &Value) -> Value {
    let kind = block["type"].as_str().unwrap_or("text");
    match kind {
        "text" | "input_text" | "output_text" | "summary_text" => {
            json!({"type": "text", "content": block["text"]})
        }
        "refusal" => json!({"type": "text", "content": block["refusal"]}),
        "thinking" => json!({"type": "reasoning", "content": block["thinking"]}),
        "tool_use" => called(&block["id"], &block["name"], &block["input"]),
        "tool_result" => tool_said(&block["tool_use_id"], &block["content"]),
        other => named(other, block),
    }
}

/// A thing that is no text: where it lies, if that is an address of the web; else that it was there.
fn named(kind: &str, block: &Value) -> Value {
    let url = &block["image_url"];
    let url = url["url"].as_str().or_else(|| url.as_str());
    let url = url.or_else(|| block["source"]["url"].as_str());
    match url.filter(|url| url.starts_with("http")) {
        Some(url) => json!({"type": "uri", "modality": "image", "uri": url}),
        None => json!({"type": kind}),
    }
}

/// A tool that is called. Its arguments are JSON in a text, or JSON.
pub fn called(id: &Value, name: &Value, arguments: &Value) -> Value {
    let parsed = arguments.as_str().map(serde_json::from_str::<Value>);
    let arguments = match parsed {
        Some(Ok(parsed)) => parsed,
        _ => arguments.clone(),
    };
    json!({"type": "tool_call", "id": id, "name": name, "arguments": arguments})
}

/// What a tool said.
pub fn tool_said(id: &Value, said: &Value) -> Value {
    json!({"type": "tool_call_response", "id": id, "response": said})
}

/// The parts of one of Responses' items.
pub fn of_item(item: &Value) -> Vec<Value> {
    match item["type"].as_str() {
        Some("function_call") => vec![called(&item["call_id"], &item["name"], &item["arguments"])],
        Some("function_call_output") => vec![tool_said(&item["call_id"], &item["output"])],
        Some("reasoning") => {
            let thoughts = item["summary"].as_array().into_iter().flatten();
            let thoughts = thoughts.map(|one| json!({"type": "reasoning", "content": one["text"]}));
            thoughts.collect()
        }
        Some("message") | None => in_parts(&item["content"]),
        Some(other) => vec![json!({"type": other})],
    }
}
