//! A stream that is retold: whole events, each once, in order, under another name; whatever numbers
//! the provider gives them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shunt::cold::background::Background;
use shunt::fuzz::{Place, Reader, event_length, event_named};
use shunt::upstream::sse::{Lines, data};

fn payloads(event: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut lines) = (Vec::new(), Lines::default());
    lines.feed(event, |line| found.extend(data(line).map(<[u8]>::to_vec)));
    found
}

fuzz_target!(|bytes: &[u8]| {
    let none = Background {
        model: None,
        metadata: None,
        stream: true,
    };
    let mut reader = Reader::new("resp_0".into(), none, None);
    let (mut rest, mut place) = (bytes, Place::default());
    let mut last: Option<u64> = None;
    while let Some(length) = event_length(rest) {
        let (event, after) = rest.split_at(length);
        assert!(event.ends_with(b"\n\n") || event.ends_with(b"\n\r\n"));
        assert_eq!(event_length(&event[..length - 1]), None);
        place.pass(event);
        let named = event_named(event, "7");
        let lines = named.split(|byte| *byte == b'\n');
        let ids: Vec<&[u8]> = lines.filter(|line| line.starts_with(b"id:")).collect();
        assert_eq!(ids, [b"id: 7"]);
        assert_eq!(payloads(&named), payloads(event));
        if let Some(told) = reader.event(event) {
            assert_eq!(
                event_length(&told).is_some(),
                told.ends_with(b"\n\n") || told.ends_with(b"\n\r\n")
            );
            // An event is what all of its lines say together.
            let payload = payloads(&told).join(&b'\n');
            let number = serde_json::from_slice::<serde_json::Value>(&payload);
            let number = number.ok().and_then(|told| told.get("sequence_number")?.as_u64());
            if let Some(number) = number
                && told.starts_with(b"event: ")
            {
                assert!(last.is_none_or(|last| last < number || number == u64::MAX));
                last = Some(number);
            }
        }
        rest = after;
    }
    assert!(place.is_within(bytes));
    assert_eq!(place.read + rest.len(), bytes.len());
    if let Some((end, _)) = bytes[..place.read].split_last() {
        let other = [&bytes[..place.read - 1], &[end ^ 1]].concat();
        assert!(!place.is_within(&other));
    }
});
