//! Parts of messages: texts, thoughts, calls of tools and what those said, and things that are only
//! named.

use serde_json::{Value, json};

/// What is said, which is a text or a list of texts and blocks.
pub fn parts(said: &Value) -> Vec<Value> {
    match said {
        Value::String(_) => part(said).into_iter().collect(),
        Value::Array(blocks) => blocks.iter().filter_map(part).collect(),
        _ => Vec::new(),
    }
}

/// One text, or one block of OpenAI's or Anthropic's; nothing where it has not what it should have.
fn part(block: &Value) -> Option<Value> {
    if let Value::String(text) = block {
        return Some(json!({"type": "text", "content": text}));
    }
    let of = |kind: &str, name: &str| {
        let content = block[name].as_str()?;
        Some(json!({"type": kind, "content": content}))
    };
    match block["type"].as_str()? {
        "text" | "input_text" | "output_text" => of("text", "text"),
        "refusal" => of("text", "refusal"),
        "thinking" => of("reasoning", "thinking"),
        "summary_text" => of("reasoning", "text"),
        "tool_use" => Some(called(&block["id"], &block["name"], &block["input"])),
        "tool_result" => Some(tool_said(&block["tool_use_id"], &block["content"])),
        other => Some(named(other, block)),
    }
}

/// A thing that is no text: where it lies, if that is an address of the web or a file of the provider's;
/// else only that it was there.
fn named(kind: &str, block: &Value) -> Value {
    let modality = match kind {
        "image" | "image_url" | "input_image" => "image",
        "audio" | "input_audio" => "audio",
        _ => "document",
    };
    let source = &block["source"];
    let places = [
        &block["image_url"]["url"],
        &block["image_url"],
        &block["file_url"],
        &source["url"],
    ];
    let place = places.into_iter().find_map(Value::as_str);
    if let Some(place) = place.filter(|place| place.starts_with("http")) {
        // What follows may be a key to it.
        let place = place.split(['?', '#']).next();
        return json!({"type": "uri", "modality": modality, "uri": place});
    }
    let files = [
        &block["file_id"],
        &block["file"]["file_id"],
        &source["file_id"],
    ];
    match files.into_iter().find_map(Value::as_str) {
        Some(file) => json!({"type": "file", "modality": modality, "file_id": file}),
        None => json!({"type": kind}),
    }
}

/// A tool that is called. Its arguments are JSON in a text, or JSON.
pub fn called(id: &Value, name: &Value, arguments: &Value) -> Value {
    let name = name.as_str().unwrap_or_default();
    let parsed = arguments.as_str().map(serde_json::from_str::<Value>);
    let arguments = match parsed {
        Some(Ok(parsed)) => parsed,
        _ => arguments.clone(),
    };
    json!({"type": "tool_call", "id": id, "name": name, "arguments": arguments})
}

/// What a tool said.
pub fn tool_said(id: &Value, said: &Value) -> Value {
    let said = match said {
        Value::Array(_) => Value::Array(parts(said)),
        other => other.clone(),
    };
    json!({"type": "tool_call_response", "id": id, "response": said})
}

/// The parts of one of Responses' items.
pub fn of_item(item: &Value) -> Vec<Value> {
    match item["type"].as_str() {
        Some("function_call") => vec![called(&item["call_id"], &item["name"], &item["arguments"])],
        Some("function_call_output") => vec![tool_said(&item["call_id"], &item["output"])],
        Some("reasoning") => parts(&item["summary"]),
        Some("message") | None => parts(&item["content"]),
        Some(_) => part(item).into_iter().collect(),
    }
}
