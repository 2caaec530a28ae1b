//! Names that stand outside: a place in a stream, a job, a priority, a status, the moments of a
//! stream's bytes. What is read is written and read again the same; the rest is refused.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use shunt::cold::background::{job_id, response_id};
use shunt::cold::job::{CallbackStatus, JobId, Reason, Status};
use shunt::cold::priority::Priority;
use shunt::fuzz::{Place, Timing};

fuzz_target!(|text: &str| {
    if let Some(place) = Place::parse(text) {
        assert_eq!(Place::parse(&place.name()), Some(place));
        assert!(place.name().bytes().all(|byte| byte.is_ascii_graphic()));
        if place.read > text.len() {
            assert!(!place.is_within(text.as_bytes()));
        }
    }
    if let Some(id) = JobId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert_eq!(job_id(&response_id(&id)), Some(id));
    }
    if let Some(id) = job_id(text) {
        assert_eq!(response_id(&id), text);
    }
    assert!(Status::parse(text).is_none_or(|one| one.as_str() == text));
    assert!(Reason::parse(text).is_none_or(|one| one.as_str() == text));
    assert!(CallbackStatus::parse(text).is_none_or(|one| one.as_str() == text));
    assert!(Priority::parse(text).is_none_or(|one| one.level().to_string() == text));
    let timing = Timing::from_text(text);
    for bytes in [0, 1, text.len(), usize::MAX] {
        let _ = timing.of(bytes);
    }
    assert_eq!(
        Timing::from_text(&timing.to_text()).to_text(),
        timing.to_text()
    );

    // The text as the lengths of chunks, each some milliseconds after the one before.
    let (mut timing, mut bytes, mut after) = (Timing::default(), 0, Duration::ZERO);
    let mut came = Vec::new();
    for byte in text.bytes() {
        bytes += usize::from(byte >> 3);
        after += Duration::from_millis(u64::from(byte & 7));
        timing.mark(bytes, after);
        came.push((bytes, after));
    }
    let kept = Timing::from_text(&timing.to_text());
    for (bytes, after) in came {
        // The moment at which so many bytes were there, or a later one: never too early.
        let told = kept.of(bytes);
        assert_eq!(told, timing.of(bytes));
        assert!(bytes == 0 || told.is_some_and(|told| told <= after || told >= after));
    }
});
