//! What sealed stores must keep to besides.

use super::*;
use crate::cold::seal::Sealer;
use crate::cold::store::memory::MemoryStore;
use crate::cold::store::sealed::Sealed;
use crate::config::Seal;

pub(in crate::cold::store) fn keys(text: &str) -> Sealer {
    use base64::Engine as _;
    let key = |name: &str| {
        let byte = *name.as_bytes().last().unwrap();
        let key = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        format!("{name}:{key}")
    };
    let all: Vec<String> = text.split(',').map(key).collect();
    Sealer::parse("KEYS", &all.join(",")).unwrap()
}

/// A file whose rows are sealed whole.
#[derive(Default)]
pub(super) struct SealedFolder(Folder);

impl Place for SealedFolder {
    fn open(&self, queue_limit: u64) -> SharedStore {
        let store = SqliteStore::open(&self.0.0.path().join("jobs.db"), queue_limit).unwrap();
        Arc::new(Sealed::new(store, keys("k1"), Seal::All))
    }
}

/// A store in memory whose rows are sealed whole.
#[derive(Default)]
pub(super) struct SealedKept(Kept);

impl Place for SealedKept {
    fn open(&self, queue_limit: u64) -> SharedStore {
        let store = MemoryStore::open(&self.0, queue_limit);
        Arc::new(Sealed::new(store, keys("k1"), Seal::All))
    }
}

fn memory(kept: &Kept, ring: &str, seal: Seal) -> Sealed<MemoryStore> {
    Sealed::new(MemoryStore::open(kept, 100), keys(ring), seal)
}

#[tokio::test]
async fn what_was_kept_otherwise_is_read_all_the_same() {
    let kept = Kept::default();
    let mut jobs = Vec::new();
    let bare: SharedStore = Arc::new(MemoryStore::open(&kept, 100));
    let credentials = Arc::new(memory(&kept, "k1", Seal::Credentials));
    let all = Arc::new(memory(&kept, "k2,k1", Seal::All));
    for store in [bare, credentials.clone(), all.clone()] {
        let one = job("chat", Status::Queued);
        store.insert(one.clone(), request()).await.unwrap();
        jobs.push(one);
    }
    let switched_back = memory(&kept, "k2,k1", Seal::Credentials);
    for one in &jobs {
        assert_eq!(
            switched_back.get(&one.id).await.unwrap().as_ref(),
            Some(one)
        );
    }
    for claimed in switched_back.claim("chat", 9, NOW).await.unwrap() {
        assert_eq!(claimed.request, request());
        assert_eq!(claimed.job.error, None);
    }
}

#[tokio::test]
async fn what_looks_sealed_and_is_not_is_read_as_it_was() {
    let kept = Kept::default();
    for seal in [Seal::Credentials, Seal::All] {
        let store = memory(&kept, "k1", seal);
        let other = keys("k9");
        let place = crate::cold::seal::Place(crate::cold::seal::Purpose::RequestBody, b"x");
        let mut one = job("chat", Status::Queued);
        let text = other.seal_text(place, b"text");
        one.callback.as_mut().unwrap().url.clone_from(&text);
        one.background.as_mut().unwrap().model = Some(text.clone());
        let mut sent = request();
        sent.body = other.seal(place, b"body").into();
        sent.path_and_query = text;
        store.insert(one.clone(), sent.clone()).await.unwrap();
        assert_eq!(store.get(&one.id).await.unwrap(), Some(one));
        assert_eq!(store.claim("chat", 1, NOW).await.unwrap()[0].request, sent);
    }
}

#[tokio::test]
async fn a_job_whose_key_is_not_there_says_so_and_others_go_on() {
    for seal in [Seal::Credentials, Seal::All] {
        let kept = Kept::default();
        let (lost, done) = (job("chat", Status::Queued), job("other", Status::Running));
        let before = memory(&kept, "k1", seal);
        before.insert(lost.clone(), request()).await.unwrap();
        before.insert(done.clone(), request()).await.unwrap();
        before
            .finish(&done.id, By::Order, answered(), NOW)
            .await
            .unwrap();

        let after = memory(&kept, "k2", seal);
        let fine = job("chat", Status::Queued);
        after.insert(fine.clone(), request()).await.unwrap();
        let claimed = after.claim("chat", 9, NOW).await.unwrap();
        assert_eq!(claimed.len(), 2);
        let why = claimed[0].job.error.as_ref().unwrap();
        assert_eq!(why.code, "unreadable");
        assert!(why.message.contains("the key `k1`"), "{}", why.message);
        assert_eq!(claimed[1].job.id, fine.id);
        assert_eq!(claimed[1].request, request());

        let why = after.answer(&done.id).await.unwrap_err().to_string();
        assert!(why.contains("the key `k1`"), "{why}");
        let query = ListQuery {
            limit: 9,
            ..ListQuery::default()
        };
        assert_eq!(after.list(query).await.unwrap().len(), 3);
        let told = after.claim_deliveries(9, NOW, NOW).await.unwrap();
        if seal == Seal::All {
            assert!(told.is_empty());
            let shown = after
                .get(&done.id)
                .await
                .unwrap()
                .unwrap()
                .callback
                .unwrap();
            assert_eq!(shown.status, CallbackStatus::Dead);
            assert!(shown.url.contains("the key `k1`"), "{}", shown.url);
            let why = shown.last_error.unwrap();
            assert!(why.contains("the key `k1`"), "{why}");
        }
        // With its key back everything is there.
        let back = memory(&kept, "k2,k1", seal);
        assert_eq!(back.answer(&done.id).await.unwrap(), answered().answer);
        let replayed = back.replay_delivery(&done.id, NOW).await.unwrap();
        assert_eq!(replayed.is_some(), seal == Seal::All);
    }
}

#[tokio::test]
async fn rows_of_two_jobs_or_of_two_purposes_cannot_be_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let store = Sealed::new(SqliteStore::open(&path, 9).unwrap(), keys("k1"), Seal::All);
    let (one, other) = (job("chat", Status::Queued), job("chat", Status::Queued));
    for queued in [&one, &other] {
        store.insert(queued.clone(), request()).await.unwrap();
    }
    let outside = rusqlite::Connection::open(&path).unwrap();
    // One gets the other's body, the other its own path as its body's text.
    let swap = "update requests set body = (select body from requests where job = \
                (select seq from jobs where id = ?2)) where job = (select seq from jobs where id = ?1)";
    let names = (one.id.as_str(), other.id.as_str());
    assert_eq!(outside.execute(swap, names).unwrap(), 1);
    let swap = "update requests set path = (select url from deliveries d where d.job = requests.job) \
                where job = (select seq from jobs where id = ?1)";
    assert_eq!(outside.execute(swap, [names.1]).unwrap(), 1);
    for claimed in store.claim("chat", 9, NOW).await.unwrap() {
        let why = claimed.job.error.unwrap().message;
        assert!(why.contains("belongs to another job"), "{why}");
    }
}

const CREDENTIALS: [&str; 5] = [
    "mark-authorization",
    "mark-x-api-key",
    "mark-cookie",
    "mark-query-key",
    "mark-set-cookie",
];
const CONTENT: [&str; 12] = [
    "mark-prompt",
    "mark-long-prompt",
    "mark-answer",
    "mark-long-answer",
    "mark-kept-answer",
    "mark-metadata",
    "mark-model",
    "mark-callback-token",
    "mark-error",
    "mark-history",
    "mark-delivery",
    "mark-kept-long",
];

fn long(mark: &str) -> Bytes {
    format!("{mark}{}{mark}", " ".repeat(600 << 10)).into()
}

/// A job and a kept answer with a mark in each place where a caller or a provider writes.
async fn marked(store: &dyn Store) {
    let answer = |body: Bytes| StoredAnswer {
        status: 200,
        headers: vec![("set-cookie".into(), b"a=mark-set-cookie".to_vec())],
        body,
        timing: String::new(),
    };
    let line = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let bodies = [
        (
            "mark-prompt".into(),
            "mark-answer".into(),
            "mark-kept-answer".into(),
        ),
        (
            long("mark-long-prompt"),
            long("mark-long-answer"),
            long("mark-kept-long"),
        ),
    ];
    for (prompt, told, kept_answer) in bodies {
        let mut one = job("chat", Status::Running);
        one.callback.as_mut().unwrap().url = "https://a.example/?t=mark-callback-token".into();
        one.background = Some(Background {
            model: Some("mark-model".into()),
            metadata: Some(serde_json::json!({"k": "mark-metadata"})),
            stream: false,
        });
        let sent = StoredRequest {
            method: "POST".into(),
            path_and_query: "/v1beta/x?key=mark-query-key".into(),
            headers: vec![
                line("authorization", "Bearer mark-authorization"),
                line("x-api-key", "mark-x-api-key"),
                line("cookie", "session=mark-cookie"),
            ],
            body: prompt,
        };
        store.insert(one.clone(), sent).await.unwrap();
        let mut record = ended(1);
        record.error = Some("mark-history".into());
        store.note(&one.id, vec![record]).await.unwrap();
        let outcome = Outcome {
            status: Status::Failed,
            answer: Some(answer(told)),
            error: Some(JobError {
                code: "c".into(),
                message: "mark-error".into(),
            }),
        };
        store
            .finish(&one.id, By::Order, outcome, NOW)
            .await
            .unwrap();
        for delivery in store.claim_deliveries(9, NOW, NOW).await.unwrap() {
            let later = DeliveryOutcome::Later {
                at: NOW,
                error: "mark-delivery".into(),
            };
            store.delivered(&delivery.webhook_id, later).await.unwrap();
        }
        let mut again = kept(NOW, Became::Answer(answer(kept_answer.clone())));
        again.key.name[0] ^= u8::from(kept_answer.len() > 99);
        store.keep(again).await.unwrap();
    }
}

/// The marks that stand in any file of a folder, but for the keys.
fn found(folder: &Path) -> Vec<&'static str> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|one| one.unwrap().path());
    let files: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).unwrap()).collect();
    let all = CREDENTIALS.into_iter().chain(CONTENT);
    all.filter(|mark| {
        let mark = memchr::memmem::Finder::new(mark.as_bytes());
        files.iter().any(|file| mark.find(file).is_some())
    })
    .collect()
}

#[tokio::test]
async fn in_no_file_stands_in_clear_what_is_to_be_sealed() {
    let everything: Vec<&str> = CREDENTIALS.into_iter().chain(CONTENT).collect();
    for (seal, expected) in [
        // So that this test is known to find what there is.
        (None, everything.clone()),
        (Some(Seal::Credentials), CONTENT.to_vec()),
        (Some(Seal::All), Vec::new()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("jobs.db"), 9).unwrap();
        let store: SharedStore = match seal {
            None => Arc::new(store),
            Some(seal) => Arc::new(Sealed::new(store, keys("k1"), seal)),
        };
        marked(&*store).await;
        assert_eq!(found(folder.path()), expected, "{seal:?} while it is open");
        drop(store);
        assert_eq!(found(folder.path()), expected, "{seal:?}");
    }
}

#[tokio::test]
async fn what_a_gateway_with_one_key_sealed_is_still_sent() {
    use chacha20poly1305::aead::{Aead as _, Payload};
    use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = (
        folder.path().join("jobs.db"),
        folder.path().join("jobs.db.key"),
    );
    drop(SqliteStore::open(&path, 9).unwrap());
    let sealer = Sealer::from_file(&key).unwrap();
    let secret: [u8; 32] = std::fs::read(&key).unwrap().try_into().unwrap();
    let queued = job("chat", Status::Queued);
    let store = Sealed::new(SqliteStore::open(&path, 9).unwrap(), sealer, Seal::All);
    store.insert(queued.clone(), request()).await.unwrap();
    let payload = Payload {
        msg: b"authorization:Bearer very-secret-key\n",
        aad: queued.id.as_str().as_bytes(),
    };
    let nonce = [7; 24];
    let cipher = XChaCha20Poly1305::new(&secret.into());
    let old = cipher.encrypt(&XNonce::from(nonce), payload).unwrap();
    let old = [&nonce[..], &old].concat();
    let outside = rusqlite::Connection::open(&path).unwrap();
    let set = "update requests set headers = ?1, plain = 0, path = ?2, body = ?3";
    let row = (old, request().path_and_query, request().body.to_vec());
    outside.execute(set, row).unwrap();
    let claimed = store.claim("chat", 1, NOW).await.unwrap();
    assert_eq!(claimed[0].request, request());
}
