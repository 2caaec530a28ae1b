//! What is read of a call's body is what serde_json reads, and what is spliced into a body changes
//! that field and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use shunt::cold::background::{event_renamed, renamed};
use shunt::fuzz::{earlier_job, with_earlier};
use shunt::upstream::peek::Peek;
use shunt::upstream::scan::replaced;

fn object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

fn only(field: &[&str], before: &[u8], after: &[u8]) -> Map<String, Value> {
    let (mut before, mut after) = (object(before).unwrap(), object(after).expect("JSON"));
    let whole = after.clone();
    for field in field {
        before.remove(*field);
        after.remove(*field);
    }
    assert_eq!(before, after);
    whole
}

fuzz_target!(|body: &[u8]| {
    let peek = Peek::read(body);
    let Some(oracle) = object(body) else { return };
    if let Ok(peek) = &peek {
        let field = |name: &str| oracle.get(name).filter(|value| !value.is_null());
        assert_eq!(
            peek.model.as_deref(),
            field("model").map(|one| one.as_str().unwrap())
        );
        assert_eq!(
            peek.stream,
            field("stream").is_some_and(|one| one.as_bool().unwrap())
        );
        assert_eq!(peek.store, field("store").map(|one| one.as_bool().unwrap()));
        assert_eq!(
            peek.background,
            field("background").is_some_and(|one| one.as_bool().unwrap())
        );
        if let Some(at) = &peek.model_at {
            let made = replaced(body, [(at.clone(), b"\"a \\u0022 b\"")]);
            let made = only(&["model"], body, &made);
            assert_eq!(made["model"], "a \" b");
        }
        assert_eq!(
            peek.earlier_at.is_some(),
            field("previous_response_id").is_some_and(Value::is_string)
        );
        if let Some(at) = &peek.earlier_at {
            let name = "resp_\"\\\n\u{1}\u{e9}";
            let made = with_earlier(body, at, name);
            assert_eq!(
                only(&["previous_response_id"], body, &made)["previous_response_id"],
                name
            );
            assert_eq!(Peek::read(&made).unwrap().model, peek.model);
            let told = oracle["previous_response_id"].as_str().unwrap();
            if let Some(id) = earlier_job(&body[at.clone()]) {
                assert_eq!(told.replacen("resp_", "job_", 1), id.as_str());
            }
        }
    }
    if let Some(made) = renamed(body, "resp_new") {
        let made = only(&["id", "background"], body, &made);
        assert_eq!(
            (&made["id"], &made["background"]),
            (&"resp_new".into(), &true.into())
        );
    }
    if let Some(made) = event_renamed(body, "resp_new") {
        let made = only(&["response"], body, &made);
        assert_eq!(made["response"]["id"], "resp_new");
    }
});
