//! The JSON of both APIs, correct enough that the official SDKs parse it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The API that a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
    /// `/v1/responses`.
    Response,
    /// `/v1/embeddings`.
    Embedding,
    /// `/v1/messages`.
    Message,
}

impl Api {
    /// The API of a path.
    pub fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completion,
            "/v1/responses" => Self::Response,
            "/v1/embeddings" => Self::Embedding,
            "/v1/messages" => Self::Message,
            _ => return None,
        })
    }

    /// The field that a request must have.
    pub const fn required(self) -> &'static str {
        match self {
            Self::Chat | Self::Message => "messages",
            Self::Completion => "prompt",
            Self::Response | Self::Embedding => "input",
        }
    }
}

/// The words that a model writes.
fn word(at: u32) -> String {
    format!("word{at} ")
}

fn text(tokens: u32) -> String {
    (0..tokens).map(word).collect()
}

fn created() -> u64 {
    1_795_514_400
}

/// The first tool that a request offers.
fn tool(request: &Value) -> Option<&str> {
    if request["tool_choice"] == "none" {
        return None;
    }
    let first = request["tools"].get(0)?;
    first["function"]["name"]
        .as_str()
        .or_else(|| first["name"].as_str())
}

/// A whole answer.
pub fn whole(api: Api, request: &Value, tokens: u32) -> Value {
    let model = &request["model"];
    let usage =
        json!({"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens});
    match api {
        Api::Chat => {
            let (message, reason) = if let Some(name) = tool(request) {
                (
                    json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                    {"id": "call_1", "type": "function",
                     "function": {"name": name, "arguments": "{\"city\":\"Bern\"}"}}]}),
                    "tool_calls",
                )
            } else {
                let message =
                    json!({"role": "assistant", "content": text(tokens), "refusal": null});
                (message, "stop")
            };
            json!({"id": "chatcmpl-1", "object": "chat.completion", "created": created(),
                "model": model, "usage": usage, "system_fingerprint": "fp_simulated",
                "choices": [{"index": 0, "message": message, "logprobs": null,
                    "finish_reason": reason}]})
        }
        Api::Completion => json!({"id": "cmpl-1", "object": "text_completion",
            "created": created(), "model": model, "usage": usage,
            "choices": [{"index": 0, "text": text(tokens), "logprobs": null,
                "finish_reason": "stop"}]}),
        Api::Response => response(request, tokens, "completed", true),
        Api::Embedding => embedding(request),
        Api::Message => {
            let (content, reason) = match tool(request) {
                Some(name) => (
                    json!([{"type": "tool_use", "id": "toolu_1", "name": name,
                        "input": {"city": "Bern"}}]),
                    "tool_use",
                ),
                None => (json!([{"type": "text", "text": text(tokens)}]), "end_turn"),
            };
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": model,
                "content": content, "stop_reason": reason, "stop_sequence": null,
                "usage": {"input_tokens": 9, "output_tokens": tokens}})
        }
    }
}

/// The name of every response.
const RESPONSE: &str = "resp_1";

/// Whether a call goes on from a response that was never made here.
pub fn follows_nothing(request: &Value) -> bool {
    let earlier = request["previous_response_id"].as_str();
    earlier.is_some_and(|earlier| earlier != RESPONSE)
}

fn response(request: &Value, tokens: u32, status: &str, done: bool) -> Value {
    let output = if done {
        json!([{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text(tokens), "annotations": []}]}])
    } else {
        json!([])
    };
    let usage = done.then(|| {
        json!({"input_tokens": 9, "output_tokens": tokens,
        "total_tokens": 9 + tokens, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0}})
    });
    json!({"id": RESPONSE, "object": "response", "created_at": created(), "status": status,
        "background": false, "error": null, "incomplete_details": null, "instructions": null,
        "model": request["model"], "output": output, "parallel_tool_calls": true,
        "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "metadata": {},
        "previous_response_id": request["previous_response_id"],
        "usage": usage})
}

fn embedding(request: &Value) -> Value {
    let inputs = request["input"].as_array().map_or(1, Vec::len);
    let vector: [f32; 8] = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8];
    let encoded = if request["encoding_format"] == "base64" {
        let bytes: Vec<u8> = vector
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        json!(STANDARD.encode(bytes))
    } else {
        json!(vector)
    };
    let data: Vec<Value> = (0..inputs)
        .map(|at| json!({"object": "embedding", "index": at, "embedding": encoded}))
        .collect();
    json!({"object": "list", "data": data, "model": request["model"],
        "usage": {"prompt_tokens": 9, "total_tokens": 9}})
}

/// A streamed answer: events before the first token, one for each token, events after the last.
pub struct Stream {
    /// Sent with the head.
    pub before: String,
    /// One each.
    pub tokens: Vec<String>,
    /// Sent with the last token.
    pub after: String,
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn event(value: &Value) -> String {
    let name = value["type"].as_str().unwrap_or("message");
    format!("event: {name}\ndata: {value}\n\n")
}

/// A streamed answer.
pub fn stream(api: Api, request: &Value, tokens: u32) -> Stream {
    match api {
        Api::Response => responses(request, tokens),
        Api::Message => messages(request, tokens),
        _ => chunks(api, request, tokens),
    }
}

fn chunks(api: Api, request: &Value, tokens: u32) -> Stream {
    let chat = api != Api::Completion;
    let chunk = |choice: Option<Value>| {
        let object = if chat {
            "chat.completion.chunk"
        } else {
            "text_completion"
        };
        json!({"id": "chatcmpl-1", "object": object, "created": created(),
            "model": request["model"], "choices": choice.into_iter().collect::<Vec<_>>()})
    };
    let delta = |delta: Value| {
        data(&chunk(Some(
            json!({"index": 0, "delta": delta, "logprobs": null,
            "finish_reason": null}),
        )))
    };
    let called = tool(request).filter(|_| chat);
    let piece = |at: u32| match called {
        Some(name) if at == 0 => delta(json!({"tool_calls": [{"index": 0, "id": "call_1",
            "type": "function", "function": {"name": name, "arguments": ""}}]})),
        Some(_) => {
            let part = if at == 1 { "{\"city\":\"Bern\"}" } else { " " };
            delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
        }
        None if chat => delta(json!({"content": word(at)})),
        None => data(&chunk(Some(
            json!({"index": 0, "text": word(at), "logprobs": null,
            "finish_reason": null}),
        ))),
    };
    let reason = if called.is_some() {
        "tool_calls"
    } else {
        "stop"
    };
    let last = if chat {
        json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": reason})
    } else {
        json!({"index": 0, "text": "", "logprobs": null, "finish_reason": reason})
    };
    let mut after = data(&chunk(Some(last)));
    if request["stream_options"]["include_usage"] == true {
        let mut usage = chunk(None);
        usage["usage"] = json!({"prompt_tokens": 9, "completion_tokens": tokens,
            "total_tokens": 9 + tokens});
        after.push_str(&data(&usage));
    }
    after.push_str("data: [DONE]\n\n");
    let role = delta(json!({"role": "assistant", "content": ""}));
    Stream {
        before: if chat { role } else { String::new() },
        tokens: (0..tokens).map(piece).collect(),
        after,
    }
}

fn responses(request: &Value, tokens: u32) -> Stream {
    let mut number = 0;
    let mut numbered = |mut value: Value| {
        value["sequence_number"] = json!(number);
        number += 1;
        event(&value)
    };
    let item = json!({"id": "msg_1", "type": "message", "role": "assistant",
        "status": "in_progress", "content": []});
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let at = |kind: &str| json!({"type": kind, "item_id": "msg_1", "output_index": 0, "content_index": 0});
    let with = |mut value: Value, name: &str, inner: Value| {
        value[name] = inner;
        value
    };
    let begun = response(request, tokens, "in_progress", false);
    let mut before = numbered(json!({"type": "response.created", "response": begun}));
    before += &numbered(json!({"type": "response.in_progress", "response": begun}));
    before +=
        &numbered(json!({"type": "response.output_item.added", "output_index": 0, "item": item}));
    before += &numbered(with(at("response.content_part.added"), "part", part("")));
    let pieces = (0..tokens)
        .map(|token| {
            let delta = with(
                at("response.output_text.delta"),
                "delta",
                json!(word(token)),
            );
            numbered(with(delta, "logprobs", json!([])))
        })
        .collect();
    let whole = text(tokens);
    let done = with(at("response.output_text.done"), "text", json!(whole));
    let mut after = numbered(with(done, "logprobs", json!([])));
    after += &numbered(with(at("response.content_part.done"), "part", part(&whole)));
    let complete = response(request, tokens, "completed", true);
    after += &numbered(
        json!({"type": "response.output_item.done", "output_index": 0,
        "item": complete["output"][0]}),
    );
    after += &numbered(json!({"type": "response.completed", "response": complete}));
    Stream {
        before,
        tokens: pieces,
        after,
    }
}

fn messages(request: &Value, tokens: u32) -> Stream {
    let called = tool(request);
    let mut message = whole(Api::Message, request, 0);
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    let mut before = event(&json!({"type": "message_start", "message": message}));
    let mut first = String::new();
    let block = match called {
        Some(name) => json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}),
        None => json!({"type": "text", "text": ""}),
    };
    let start = event(&json!({"type": "content_block_start", "index": 0, "content_block": block}));
    // A tool call begins with its block: that is its first token.
    if called.is_some() {
        first = start;
    } else {
        before += &start;
    }
    before += &event(&json!({"type": "ping"}));
    let piece = |at: u32| {
        let delta = match called {
            Some(_) if at == 0 => {
                json!({"type": "input_json_delta", "partial_json": "{\"city\":\"Bern\"}"})
            }
            Some(_) => json!({"type": "input_json_delta", "partial_json": ""}),
            None => json!({"type": "text_delta", "text": word(at)}),
        };
        event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}))
    };
    let mut pieces: Vec<String> = (0..tokens).map(piece).collect();
    if let Some(piece) = pieces.first_mut() {
        *piece = first + piece;
    }
    let reason = if called.is_some() {
        "tool_use"
    } else {
        "end_turn"
    };
    let after = event(&json!({"type": "content_block_stop", "index": 0}))
        + &event(&json!({"type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": null},
            "usage": {"output_tokens": tokens}}))
        + &event(&json!({"type": "message_stop"}));
    Stream {
        before,
        tokens: pieces,
        after,
    }
}
