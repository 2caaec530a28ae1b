//! Which bytes belong to which call: all of them are a function of the call's number.

use bytes::Bytes;

/// The header that carries a call's number to the provider.
pub const CALL: &str = "x-call";

/// How a call is named in its bytes.
pub fn name(call: u64) -> String {
    format!("call-{call:06}")
}

fn words(call: u64) -> usize {
    // Some answers are larger than what a connection takes at once.
    let long = if call % 29 == 7 { 6_000 } else { 0 };
    4 + usize::try_from(call % 60).unwrap() + long
}

/// The body of its request.
pub fn request(call: u64, streamed: bool) -> Bytes {
    let name = name(call);
    let text = format!("{name} ").repeat(words(call * 7) % 100);
    format!(
        r#"{{"model":"m","stream":{streamed},"messages":[{{"role":"user","content":"{text}"}}],"metadata":{{"call":"{name}"}}}}"#
    )
    .into()
}

/// The whole answer, in the pieces that it is sent in; the second carries the first content.
pub fn pieces(call: u64, streamed: bool) -> Vec<Bytes> {
    let name = name(call);
    if !streamed {
        let text = format!("{name} ").repeat(words(call));
        let head = format!(r#"{{"id":"{name}","object":"chat.completion","choices":["#);
        let body = format!(
            r#"{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"#
        );
        let end = r#""usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}"#;
        return vec![head.into(), body.into(), end.into()];
    }
    let event = |delta: &str| {
        let event = format!(
            r#"data: {{"id":"{name}","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta}}}]}}"#
        );
        Bytes::from(event + "\n\n")
    };
    let mut all = vec![event(r#"{"role":"assistant","content":""}"#)];
    let token = format!(r#"{{"content":"{name} "}}"#);
    all.extend((0..3 + call % 9).map(|_| event(&token)));
    all.push(Bytes::from_static(b"data: [DONE]\n\n"));
    all
}

/// The whole answer.
pub fn answer(call: u64, streamed: bool) -> Vec<u8> {
    pieces(call, streamed).concat()
}

/// What the provider says when it refuses.
pub fn refusal(call: u64) -> Bytes {
    let name = name(call);
    format!(r#"{{"error":{{"message":"{name} is refused","type":"simulated","code":"{name}"}}}}"#)
        .into()
}

/// The same as an event of a stream.
pub fn error_event(call: u64) -> Bytes {
    [b"data: ", &refusal(call)[..], b"\n\n"].concat().into()
}
