use super::*;
use crate::upstream::usage::usage_in;

fn content(dialect: Dialect, payload: &str) -> bool {
    event(dialect, payload.as_bytes()).content
}

#[test]
fn text_reasoning_and_tool_calls_are_content() {
    for payload in [
        r#"{"choices":[{"delta":{"content":"Hi"}}]}"#,
        r#"{"choices":[{"delta":{"reasoning_content":"Hm"}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
        r#"{"choices":[{"text":"Hi"}]}"#,
        r#"{"type":"response.output_text.delta","delta":"Hi"}"#,
        r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#,
    ] {
        assert!(content(Dialect::Openai, payload), "{payload}");
    }
    for payload in [
        r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}"#,
        r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"H"}}"#,
        r#"{"type":"content_block_start","content_block":{"type":"tool_use","name":"t"}}"#,
    ] {
        assert!(content(Dialect::Anthropic, payload), "{payload}");
    }
}

#[test]
fn heads_pings_roles_and_ends_are_not() {
    for payload in [
        r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
        r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
        r#"{"type":"response.created","response":{"usage":null}}"#,
        "[DONE]",
    ] {
        assert!(!content(Dialect::Openai, payload), "{payload}");
    }
    for payload in [
        r#"{"type":"ping"}"#,
        r#"{"type":"message_start","message":{"usage":{"input_tokens":3}}}"#,
        r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":""}}"#,
    ] {
        assert!(!content(Dialect::Anthropic, payload), "{payload}");
    }
}

#[test]
fn errors_and_ends_are_told_from_what_stands_between() {
    use Dialect::{Anthropic, Openai};
    for (dialect, payload, error, end) in [
        (Openai, r#"{"error":{"message":"overloaded"}}"#, true, false),
        (
            Openai,
            r#"{"type":"error","code":"server_error"}"#,
            true,
            false,
        ),
        (
            Openai,
            r#"{"type":"response.failed","response":{"error":{}}}"#,
            true,
            false,
        ),
        (
            Openai,
            r#"{"type":"response.completed","response":{}}"#,
            false,
            true,
        ),
        (
            Openai,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            false,
            true,
        ),
        (
            Openai,
            r#"{"choices":[{"delta":{},"finish_reason":null}]}"#,
            false,
            false,
        ),
        (Openai, "[DONE]", false, true),
        (
            Anthropic,
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
            true,
            false,
        ),
        (Anthropic, r#"{"type":"message_stop"}"#, false, true),
        (
            Anthropic,
            r#"{"type":"message_delta","usage":{"output_tokens":3}}"#,
            false,
            false,
        ),
    ] {
        let event = event(dialect, payload.as_bytes());
        assert_eq!(
            (event.content, event.error, event.end),
            (false, error, end),
            "{payload}"
        );
    }
    assert_eq!(event(Openai, b""), Event::default());
}

#[test]
fn tokens_are_found_wherever_the_apis_put_them() {
    let start = br#"{"type":"message_start","message":{"usage":{"input_tokens":3}}}"#;
    assert_eq!(
        event(Dialect::Anthropic, start).usage.prompt_tokens,
        Some(3)
    );
    let last = br#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    assert_eq!(
        event(Dialect::Openai, last).usage.completion_tokens,
        Some(2)
    );
    let done = br#"{"type":"response.completed","response":{"usage":{"output_tokens":9}}}"#;
    assert_eq!(
        event(Dialect::Openai, done).usage.completion_tokens,
        Some(9)
    );
    let tail = br#"..."usage": {"prompt_tokens":7,"completion_tokens":8},"x":null}"#;
    let expected = Usage {
        prompt_tokens: Some(7),
        completion_tokens: Some(8),
    };
    assert_eq!(usage_in(tail), expected);
    assert_eq!(usage_in(b"{}"), Usage::default());
}
