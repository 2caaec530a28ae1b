use serde_json::{Value, json};

use super::{TooLong, answered, asked};

const LIMIT: usize = 10_000;

fn parsed(told: Option<&str>) -> Value {
    told.map_or(Value::Null, |told| serde_json::from_str(told).unwrap())
}

/// Instructions and messages of a request.
fn of(request: &Value) -> (Value, Value) {
    let (instructions, messages) = asked(request.to_string().as_bytes(), LIMIT);
    let read = |text: super::Text| parsed(text.unwrap().as_deref());
    (read(instructions), read(messages))
}

fn said(answer: &str) -> Value {
    parsed(answered(answer.as_bytes(), LIMIT).unwrap().as_deref())
}

fn text(text: &str) -> Value {
    json!({"type": "text", "content": text})
}

fn user(parts: &[Value]) -> Value {
    json!([{"role": "user", "parts": parts}])
}

fn answer(parts: &[Value], why: &str) -> Value {
    json!([{"role": "assistant", "parts": parts, "finish_reason": why}])
}

fn events(all: &[Value]) -> String {
    let lines = all.iter().map(|one| format!("data: {one}\n\n"));
    lines.collect::<String>() + "data: [DONE]\n\n"
}

#[test]
fn requests_of_each_api_are_messages_of_the_conventions() {
    let call =
        json!({"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"at": "Bern"}});
    let reply = json!({"type": "tool_call_response", "id": "c1", "response": "rain"});
    let function = json!({"name": "weather", "arguments": "{\"at\":\"Bern\"}"});
    let chat = json!({"messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]});
    let picture = json!({"type": "uri", "modality": "image", "uri": "https://example.com/a.png"});
    let told = json!([
        {"role": "system", "parts": [text("be brief")]},
        {"role": "user", "parts": [text("hi"), picture, {"type": "image_url"}]},
        {"role": "assistant", "parts": [call]},
        {"role": "tool", "parts": [reply]},
    ]);
    assert_eq!(of(&chat), (Value::Null, told));

    let anthropic = json!({"system": [{"type": "text", "text": "be brief"}], "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"},
            {"type": "tool_use", "id": "c1", "name": "weather", "input": {"at": "Bern"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "rain"}]},
    ]});
    let told = json!([
        {"role": "user", "parts": [text("hi")]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, call]},
        {"role": "user", "parts": [reply]},
    ]);
    assert_eq!(of(&anthropic), (json!([text("be brief")]), told));

    let responses = json!({"instructions": "be brief", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"at\":\"Bern\"}"},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
    ]});
    let told = json!([
        {"role": "user", "parts": [text("hi")]},
        {"role": "assistant", "parts": [call]},
        {"role": "tool", "parts": [reply]},
    ]);
    assert_eq!(of(&responses), (json!([text("be brief")]), told));

    for plain in [json!({"input": "hi"}), json!({"prompt": "hi"})] {
        assert_eq!(of(&plain), (Value::Null, user(&[text("hi")])));
    }
}

#[test]
fn answers_of_each_api_are_messages_of_the_conventions() {
    let chat = json!({"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]});
    let completions = json!({"choices": [{"text": "hello", "finish_reason": "stop"}]});
    let anthropic = json!({"type": "message", "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn"});
    let responses = json!({"status": "completed", "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "hello"}]}]});
    for one in [chat, completions, anthropic, responses] {
        assert_eq!(
            said(&one.to_string()),
            answer(&[text("hello")], "stop"),
            "{one}"
        );
    }
    let cut = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}]});
    let thought = json!({"type": "reasoning", "content": "hm"});
    assert_eq!(said(&cut.to_string()), answer(&[thought], "length"));
}

#[test]
fn a_stream_tells_what_a_whole_answer_would() {
    let delta = |delta: Value, why: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": why}]});
    let tool = |more: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": more}}]});
    let call =
        json!({"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"at": "Bern"}});
    let null = Value::Null;
    let chat = events(&[
        delta(json!({"role": "assistant", "content": ""}), null.clone()),
        delta(json!({"content": "hel"}), null.clone()),
        delta(json!({"content": "lo"}), null.clone()),
        delta(
            json!({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "weather", "arguments": ""}}]}),
            null.clone(),
        ),
        delta(tool("{\"at\":"), null.clone()),
        delta(tool("\"Bern\"}"), null),
        delta(json!({}), json!("tool_calls")),
    ]);
    let told = answer(&[text("hello"), call.clone()], "tool_call");
    assert_eq!(said(&chat), told);

    let block = |index: u64, kind: &str, more: Value| json!({"type": kind, "index": index, "content_block": more, "delta": more});
    let (start, more) = ("content_block_start", "content_block_delta");
    let anthropic = events(&[
        json!({"type": "message_start", "message": {"content": []}}),
        block(0, start, json!({"type": "text", "text": ""})),
        block(0, more, json!({"type": "text_delta", "text": "hel"})),
        block(0, more, json!({"type": "text_delta", "text": "lo"})),
        block(
            1,
            start,
            json!({"type": "tool_use", "id": "c1", "name": "weather", "input": {}}),
        ),
        block(
            1,
            more,
            json!({"type": "input_json_delta", "partial_json": "{\"at\":"}),
        ),
        block(
            1,
            more,
            json!({"type": "input_json_delta", "partial_json": "\"Bern\"}"}),
        ),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
    ]);
    assert_eq!(said(&anthropic), told);

    let whole = json!({"type": "message", "content": [{"type": "output_text", "text": "hello"}]});
    let responses = events(&[
        json!({"type": "response.output_text.delta", "delta": "hel"}),
        json!({"type": "response.output_item.done", "item": whole}),
        json!({"type": "response.completed", "response": {"status": "completed", "output": [whole]}}),
    ]);
    assert_eq!(said(&responses), answer(&[text("hello")], "stop"));
}

#[test]
fn what_came_before_a_stream_broke_off_is_told() {
    let cut = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hel\"}}]}\n\ndata: {\"choices\":[{\"ind";
    assert_eq!(said(cut), answer(&[text("hel")], "error"));
    let cut =
        "event: x\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hel\"}\n\ndata: {";
    assert_eq!(said(cut), answer(&[text("hel")], "error"));
}

#[test]
fn of_what_is_no_such_form_nothing_is_told() {
    for odd in [
        "",
        "{",
        "[]",
        "7",
        "null",
        "\"text\"",
        "{\"messages\":7}",
        "{\"choices\":{}}",
        "data: 7\n\n",
        "data: {\"type\":\"response.completed\",\"response\":7}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":7}\n\n",
        "{\"prompt\":[1,2,3]}",
        "{\"messages\":[0,0,0]}",
        "\u{1f}\u{8b}",
    ] {
        let told = asked(odd.as_bytes(), LIMIT);
        assert_eq!(told, (Ok(None), Ok(None)), "{odd}");
        assert_eq!(answered(odd.as_bytes(), LIMIT), Ok(None), "{odd}");
    }
}

#[test]
fn an_odd_last_word_takes_nothing_from_what_came_before() {
    let item = json!({"type": "message", "content": [{"type": "output_text", "text": "hello"}]});
    for odd in [json!(7), json!("x"), json!([]), json!({"output": []})] {
        let told = events(&[
            json!({"type": "response.output_item.done", "item": item}),
            json!({"type": "response.completed", "response": odd}),
        ]);
        assert_eq!(said(&told), answer(&[text("hello")], "error"), "{odd}");
    }
}

#[test]
fn bytes_of_pictures_are_told_in_no_place() {
    let picture = json!({"type": "image", "source": {"type": "base64", "data": "AAAA"}});
    let shot = json!({"type": "input_image", "image_url": "data:image/png;base64,AAAA"});
    let signed = json!({"type": "document", "source": {"url": "https://a.example/b.pdf?key=AAAA"}});
    for request in [
        json!({"messages": [{"role": "user", "content": [picture, signed]}]}),
        json!({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [picture]}]}]}),
        json!({"input": [{"type": "function_call_output", "call_id": "c1", "output": [shot]}]}),
        json!({"input": [{"role": "user", "content": [shot, {"type": "input_file", "file_data": "AAAA"}]}]}),
    ] {
        let (_, told) = of(&request);
        let told = told.to_string();
        assert!(told.contains("parts") && !told.contains("AAAA"), "{told}");
    }
}

#[test]
fn a_tool_without_arguments_and_one_that_is_named_with_each_piece_are_told_once() {
    let begun = json!({"type": "tool_use", "id": "c1", "name": "now", "input": {}});
    let anthropic = events(&[
        json!({"type": "content_block_start", "index": 0, "content_block": begun}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
    ]);
    let tool = |more: &str| {
        let function = json!({"name": "now", "arguments": more});
        let delta = json!({"tool_calls": [{"index": 0, "id": "c1", "function": function}]});
        json!({"choices": [{"delta": delta, "finish_reason": "tool_calls"}]})
    };
    let chat = events(&[tool("{"), tool("}")]);
    let item = json!({"type": "function_call", "call_id": "c1", "name": "now", "arguments": "{}"});
    let responses = json!({"status": "completed", "output": [item]}).to_string();
    let call = json!({"type": "tool_call", "id": "c1", "name": "now", "arguments": {}});
    for one in [anthropic, chat, responses] {
        let call = std::slice::from_ref(&call);
        assert_eq!(said(&one), answer(call, "tool_call"), "{one}");
    }
}

#[test]
fn a_list_of_texts_is_what_one_user_said() {
    let told = user(&[text("a"), text("b")]);
    assert_eq!(of(&json!({"prompt": ["a", "b"]})), (Value::Null, told));
}

#[test]
fn what_would_be_longer_than_it_may_be_is_none() {
    let many = json!({"messages": vec![json!({"role": "user"}); 1_000]}).to_string();
    assert_eq!(asked(many.as_bytes(), 15_000).1, Err(TooLong));
    let (_, told) = asked(many.as_bytes(), 100_000);
    assert!(told.unwrap().unwrap().len() > 15_000);
}
