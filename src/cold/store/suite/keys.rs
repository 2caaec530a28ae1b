//! What keys and scopes stand for, in every store.

use super::*;

pub(super) fn kept(at: UnixMillis, what: Became) -> recall::Kept {
    let print = CallKey::print("POST", "r", "/v1/x", b"{}");
    recall::Kept {
        key: CallKey::named(Owner::ANYONE, &at.0.to_string(), print),
        at,
        what,
    }
}

pub(super) async fn what_a_key_stands_for_is_there_after_a_restart_and_is_swept_in_time<
    P: Place,
>() {
    let place = P::default();
    let answer = Became::Answer(StoredAnswer {
        timing: String::new(),
        ..answered().answer.unwrap()
    });
    let (old, new) = (
        kept(NOW, answer),
        kept(
            NOW.plus(Duration::from_secs(9)),
            Became::Job(JobId::random()),
        ),
    );
    {
        let store = place.open(100);
        assert_eq!(store.kept(old.key.name).await.unwrap(), None);
        store.keep(old.clone()).await.unwrap();
        store.keep(new.clone()).await.unwrap();
    }
    let store = place.open(100);
    assert_eq!(store.kept(old.key.name).await.unwrap().as_ref(), Some(&old));
    assert_eq!(store.kept(new.key.name).await.unwrap().as_ref(), Some(&new));
    let between = NOW.plus(Duration::from_secs(5));
    assert_eq!(store.sweep(9, between).await.unwrap(), 1);
    assert_eq!(store.kept(old.key.name).await.unwrap(), None);
    assert_eq!(store.kept(new.key.name).await.unwrap(), Some(new));
}

pub(super) async fn a_key_whose_time_is_over_is_free_before_it_is_swept<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let old = kept(NOW, Became::Job(JobId::random()));
    let mut other = old.clone();
    other.key.print = CallKey::print("POST", "r", "/v1/y", b"{}");
    other.at = NOW.plus(Duration::from_secs(9));
    store.keep(old.clone()).await.unwrap();
    store.keep(other.clone()).await.unwrap();
    store.forget(old.key.name, NOW).await.unwrap();
    assert_eq!(store.kept(old.key.name).await.unwrap().as_ref(), Some(&old));
    store.forget(old.key.name, other.at).await.unwrap();
    store.keep(other.clone()).await.unwrap();
    assert_eq!(store.kept(old.key.name).await.unwrap(), Some(other));
}

pub(super) async fn a_scope_lists_its_own_unfinished_jobs<P: Place>() {
    let place = P::default();
    let store = place.open(100);
    let of = |scope: &str| Job {
        scope: Some(scope.into()),
        ..job("chat", Status::Queued)
    };
    let (mine, done, other) = (of("a"), of("a"), of("b"));
    for one in [&mine, &done, &other] {
        store.insert(one.clone(), request()).await.unwrap();
    }
    store
        .finish(&done.id, By::Order, answered(), NOW)
        .await
        .unwrap();
    let found = store.jobs_in(Owner::ANYONE, "a", 9).await.unwrap();
    assert_eq!(found, [mine]);
}
