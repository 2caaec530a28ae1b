//! The walk over a JSON object's members finds what serde_json finds, in the same places, and
//! refuses nothing that serde_json takes.
#![no_main]

use std::fmt;

use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use shunt::upstream::scan::{Wrong, members, replaced};

struct Raw<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Raw<'de>;
            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Raw(all))
            }
        }
        from.deserialize_map(All)
    }
}

fuzz_target!(|body: &[u8]| {
    let mut found = Vec::new();
    let walked = members(body, |member| {
        found.push(member);
        Ok(())
    });
    let mut end = 0;
    for member in &found {
        assert!(end <= member.name.start && member.name.end < member.value.start);
        assert!(member.value.start < member.value.end && member.value.end <= body.len());
        assert_eq!(
            (body[member.name.start], body[member.name.end - 1]),
            (b'"', b'"')
        );
        end = member.value.end;
    }
    if let (Ok(()), Some(member)) = (&walked, found.last()) {
        // Another value there leaves all else as it was.
        let made = replaced(body, [(member.value.clone(), b"7")]);
        let mut again = Vec::new();
        let walk = members(&made, |member| {
            again.push(member);
            Ok(())
        });
        assert!(walk.is_ok() && again.len() == found.len());
        assert_eq!(&made[again.last().unwrap().value.clone()], b"7");
    }
    let Ok(oracle) = serde_json::from_slice::<Raw>(body) else {
        return;
    };
    match walked {
        // serde_json skips what is nested deeper than it builds.
        Err(Wrong::Json(why)) if why.contains("deeper") => return,
        walked => walked.expect("serde_json takes it"),
    }
    assert_eq!(found.len(), oracle.0.len());
    for (member, (name, value)) in found.iter().zip(&oracle.0) {
        let told: String = serde_json::from_slice(&body[member.name.clone()]).unwrap();
        assert_eq!(&told, name);
        assert_eq!(&body[member.value.clone()], value.get().as_bytes());
    }
});
