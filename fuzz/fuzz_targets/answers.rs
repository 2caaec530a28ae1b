//! What an answer tells: its model is the one that serde_json finds, its tokens are read out of anything,
//! and what is said in it, or in a request, is a list of messages within its bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use shunt::fuzz::{answered, asked};
use shunt::upstream::dialect::{Answers, answers};
use shunt::upstream::scan::members;
use shunt::upstream::usage::usage_in;

/// Bytes of an answer that are looked at for its model, and of a name that is one.
const LOOKED_AT: usize = 16 << 10;
const LONGEST: usize = 256;

/// The model of a JSON object that has at most one member of that name; `None`: it is no such object.
fn model(body: &[u8]) -> Option<Answers> {
    serde_json::from_slice::<Map<String, Value>>(body).ok()?;
    let mut models = Vec::new();
    let walked = members(body, |member| {
        let name: String = serde_json::from_slice(&body[member.name]).expect("serde_json took it");
        if name == "model" {
            models.push(serde_json::from_slice::<String>(&body[member.value]).ok());
        }
        Ok(())
    });
    walked.ok()?;
    let fits = |name: &String| !name.is_empty() && name.len() <= LONGEST;
    match models.len() {
        0 => Some(Answers::Nobody),
        1 => Some(
            models
                .remove(0)
                .filter(fits)
                .map_or(Answers::Nobody, Answers::Model),
        ),
        _ => None,
    }
}

fuzz_target!(|body: &[u8]| {
    let told = answers(body);
    if let Answers::Model(name) = &told {
        assert!(!name.is_empty() && name.len() <= LONGEST);
    }
    if body.len() <= LOOKED_AT
        && let Some(model) = model(body)
    {
        assert_eq!(told, model);
    }
    let _ = usage_in(body);
    for limit in [60, 1 << 20] {
        let (apart, said) = asked(body, limit);
        for (text, is_message) in [(apart, false), (said, true), (answered(body, limit), true)] {
            let Ok(Some(text)) = text else { continue };
            assert!(text.len() <= limit);
            let list: Vec<Map<String, Value>> =
                serde_json::from_str(&text).expect("a list of objects");
            for one in list {
                assert!(if is_message {
                    one["role"].is_string() && one["parts"].is_array()
                } else {
                    one["type"].is_string()
                });
            }
        }
    }
});
