//! Lines of a stream: where chunks end does not matter, and they are those that a plain split
//! finds. What providers say in them is read without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shunt::config::Dialect;
use shunt::fuzz::{is_content, parsed};
use shunt::upstream::dialect;
use shunt::upstream::sse::{Lines, data};
use shunt::upstream::usage::usage_in;

fn lines<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut found, mut lines) = (Vec::new(), Lines::default());
    for chunk in chunks {
        lines.feed(chunk, |line| found.push(line.to_vec()));
    }
    found
}

/// Chunks of changing lengths, as the bytes themselves have it.
fn cut(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut chunks, mut rest) = (Vec::new(), bytes);
    while let Some(first) = rest.first() {
        let (chunk, after) = rest.split_at(usize::from(first % 23).clamp(1, rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

fuzz_target!(|bytes: &[u8]| {
    let whole = lines([bytes].into_iter());
    assert_eq!(whole, lines(bytes.chunks(1)));
    assert_eq!(whole, lines(cut(bytes).into_iter()));
    let mut split: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    split.pop();
    let split = split
        .into_iter()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    assert!(split.eq(whole.iter().map(Vec::as_slice)));
    for line in &whole {
        assert_eq!(data(line).is_some(), line.starts_with(b"data:"));
        let Some(payload) = data(line) else { continue };
        for one in [Dialect::Openai, Dialect::Anthropic, Dialect::Plain] {
            let told = dialect::event(one, payload);
            if one == Dialect::Plain {
                assert_eq!(told.content, !payload.is_empty());
            }
            // Names of members may be escaped; no API does so.
            let escaped = payload.windows(2).any(|two| two == b"\\u");
            if !escaped && is_content(one, payload) {
                let parsed = parsed(one, payload);
                assert!(!parsed.error && parsed.usage == dialect::Usage::default());
            }
        }
    }
    // The same bytes as the tail of an answer that is no stream.
    let tokens = usage_in(bytes);
    if !bytes.windows(7).any(|seven| seven == b"\"usage\"") {
        assert_eq!(tokens, dialect::Usage::default());
    }
});
