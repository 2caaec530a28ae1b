//! What a store keeps: sealed and opened it is what it was, whatever it looks like; what no gateway
//! wrote, or for another job, is refused and never opened; a key's text never shows.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use shunt::cold::background::Background;
use shunt::cold::history::AttemptRecord;
use shunt::cold::job::{JobId, StoredAnswer, StoredRequest, UnixMillis, header_map, lines};
use shunt::cold::recall::{Became, CallKey, Kept};
use shunt::cold::seal::{Place, Purpose, Sealer};
use shunt::config::Seal;
use shunt::fuzz::Codec;

const KEYS: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

static SEALER: LazyLock<Sealer> = LazyLock::new(|| Sealer::parse("KEYS", KEYS).unwrap());
static CODECS: LazyLock<[Codec; 2]> = LazyLock::new(|| {
    [Seal::All, Seal::Credentials]
        .map(|seal| Codec::new(Sealer::parse("KEYS", KEYS).unwrap(), seal))
});

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    path: &'a str,
    headers: Vec<(&'a [u8], &'a [u8])>,
    body: &'a [u8],
    /// Before the body and the texts: the marks of what is sealed.
    marked: bool,
    model: Option<&'a str>,
    status: u16,
    garbage: &'a [u8],
}

fuzz_target!(|input: Input| {
    let mut headers = http::HeaderMap::new();
    for (name, value) in &input.headers {
        let name = http::HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let marked = |text: &str| {
        if input.marked {
            format!("shunt-seal-1:{text}")
        } else {
            text.to_owned()
        }
    };
    let body = if input.marked {
        [b"\0shunt-seal-1\0", input.body].concat()
    } else {
        input.body.to_vec()
    };
    let (id, other) = (JobId::random(), JobId::random());
    let request = StoredRequest {
        method: "POST".into(),
        path_and_query: marked(input.path),
        headers: lines(&headers),
        body: Bytes::from(body.clone()),
    };
    let answer = StoredAnswer {
        status: input.status,
        headers: lines(&headers),
        body: Bytes::from(body),
        timing: marked("[[1,2]]"),
    };
    let records = vec![AttemptRecord {
        number: 1,
        target: None,
        began: None,
        ended: UnixMillis(0),
        result: "failed".into(),
        status: None,
        error: Some(marked(input.path)),
        gateway: "g".into(),
    }];
    for codec in &*CODECS {
        let kept = codec.request(&id, request.clone());
        let opened = codec.opened_request(&id, kept.clone()).expect("it opens");
        assert_eq!(opened, request);
        assert_eq!(header_map(&opened.headers), headers);
        if !headers.is_empty() {
            assert!(codec.opened_request(&other, kept.clone()).is_err());
            let clear: Vec<u8> = lines(&headers)[0].1.clone();
            let hidden = kept.headers.iter().all(|(_, line)| {
                clear.len() < 16 || !line.windows(clear.len()).any(|part| part == clear)
            });
            assert!(hidden);
        }
        assert_eq!(
            codec.shown_records(&id, codec.records(&id, records.clone())),
            records
        );
        let kept = Kept {
            key: CallKey {
                name: [1; 32],
                print: [2; 32],
            },
            at: UnixMillis(7),
            what: Became::Answer(answer.clone()),
        };
        assert_eq!(codec.opened_kept(codec.kept(kept.clone())), Ok(kept));
        // What no gateway wrote.
        let text = String::from_utf8_lossy(input.garbage).into_owned();
        for text in [text.clone(), format!("shunt-seal-1:{text}")] {
            let _ = codec.opened_request(
                &id,
                StoredRequest {
                    method: String::new(),
                    path_and_query: text.clone(),
                    headers: vec![(String::new(), text.clone().into_bytes())],
                    body: Bytes::from([b"\0shunt-seal-1\0", input.garbage].concat()),
                },
            );
        }
    }
    let sealer = &*SEALER;
    let place = Place(Purpose::AnswerBody, id.as_str().as_bytes());
    assert_eq!(
        sealer.open(place, &sealer.seal(place, input.body)),
        Ok(Some(input.body.to_vec()))
    );
    let text = sealer.seal_text(place, input.body);
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(
        sealer.open_text(place, text.as_bytes()),
        Ok(Some(input.body.to_vec()))
    );
    assert!(!matches!(
        sealer.open(place, &[b"\0shunt-seal-1\0\x02k1", input.garbage].concat()),
        Ok(Some(_))
    ));
    if let Ok(text) = std::str::from_utf8(input.garbage) {
        if let Err(why) = Sealer::parse("KEYS", text) {
            assert!(why.starts_with("KEYS: "));
            assert!(text.len() < 40 || !why.contains(text));
        }
    }
    let told = Background {
        model: input.model.map(str::to_owned),
        metadata: None,
        stream: input.marked,
    };
    let text = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Background>(&text).unwrap(), told);
});
