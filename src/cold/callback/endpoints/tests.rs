use super::*;

const A: &str = "https://a.example:443";
const B: &str = "https://b.example:443";
const SECOND: Duration = Duration::from_secs(1);

fn endpoints() -> Endpoints<u32> {
    Endpoints::new(EndpointSettings {
        places: 4,
        failures: 3,
        rest: 5 * SECOND,
        rest_max: 60 * SECOND,
    })
}

fn failing() -> Contact {
    Contact::Failing("it answered 500".into())
}

/// Offers so many; gives how many go, are held, and come later.
fn offer(all: &mut Endpoints<u32>, origin: &str, count: u32, now: Instant) -> [usize; 3] {
    let mut found = [0; 3];
    for item in 0..count {
        let at = match all.offer(origin, item, now) {
            Placed::Go(_) => 0,
            Placed::Held => 1,
            Placed::Later(..) => 2,
        };
        found[at] += 1;
    }
    found
}

#[test]
fn a_receiver_gets_its_places_and_leaves_the_others_theirs() {
    let (mut all, now) = (endpoints(), Instant::now());
    assert_eq!(offer(&mut all, A, 10, now), [4, 0, 6]);
    assert_eq!(offer(&mut all, B, 1, now), [1, 0, 0]);
}

#[test]
fn a_quick_receiver_has_some_held_and_each_end_starts_the_next() {
    let (mut all, now) = (endpoints(), Instant::now());
    assert_eq!(offer(&mut all, A, 1, now), [1, 0, 0]);
    all.done(A, &Contact::Well, Duration::from_millis(10), now);
    assert_eq!(offer(&mut all, A, 100, now), [4, 96, 0]);
    let next = all.done(A, &Contact::Well, Duration::from_millis(10), now);
    assert_eq!(next, [Placed::Go(4)]);
    assert_eq!(all.held(), 95);
}

#[test]
fn what_is_held_for_too_long_is_given_back_at_different_times() {
    let (mut all, now) = (endpoints(), Instant::now());
    offer(&mut all, A, 1, now);
    all.done(A, &Contact::Well, Duration::from_millis(100), now);
    assert_eq!(offer(&mut all, A, 10, now), [4, 6, 0]);
    assert!(all.tick(now + HOLD).is_empty());
    let back = all.tick(now + SECOND);
    let times: Vec<Duration> = back
        .into_iter()
        .map(|(_, placed)| match placed {
            Placed::Later(_, wait, None) => wait,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((times.len(), all.held()), (6, 0));
    assert!(times.windows(2).all(|two| two[0] < two[1]), "{times:?}");
}

#[test]
fn a_receiver_that_keeps_failing_rests_longer_each_time_and_is_asked_by_one_alone() {
    let (mut all, mut now) = (endpoints(), Instant::now());
    offer(&mut all, A, 3, now);
    for _ in 0..3 {
        all.done(A, &failing(), SECOND, now);
    }
    for rest in [5, 10, 20, 40, 60, 60] {
        let almost = now + rest * SECOND - Duration::from_millis(1);
        let Placed::Later(_, wait, Some(why)) = all.offer(A, 1, almost) else {
            panic!("it rests");
        };
        assert!(wait >= Duration::from_millis(1));
        assert!(
            why.contains("in a row: ") && why.ends_with("it answered 500"),
            "{why}"
        );
        now += rest * SECOND;
        assert_eq!(offer(&mut all, A, 5, now), [1, 0, 4]);
        all.done(A, &failing(), SECOND, now);
    }
    now += 60 * SECOND;
    assert_eq!(offer(&mut all, A, 1, now), [1, 0, 0]);
    all.done(A, &Contact::Well, SECOND, now);
    assert_eq!(offer(&mut all, A, 4, now), [4, 0, 0]);
}

#[test]
fn deliveries_that_ran_when_the_rest_began_do_not_lengthen_it() {
    let (mut all, now) = (endpoints(), Instant::now());
    offer(&mut all, A, 4, now);
    for _ in 0..4 {
        all.done(A, &failing(), SECOND, now);
    }
    assert_eq!(offer(&mut all, A, 1, now + 5 * SECOND), [1, 0, 0]);
}

#[test]
fn a_receiver_that_wants_less_gets_half_and_one_more_with_each_success() {
    let (mut all, now) = (endpoints(), Instant::now());
    offer(&mut all, A, 1, now);
    all.done(A, &Contact::Slower(None, "429".into()), SECOND, now);
    assert_eq!(offer(&mut all, A, 4, now), [2, 0, 2]);
    all.done(A, &Contact::Well, SECOND, now);
    all.done(A, &Contact::Well, SECOND, now);
    assert_eq!(offer(&mut all, A, 4, now), [4, 0, 0]);
}

#[test]
fn a_receiver_that_asks_for_time_gets_it_within_bounds() {
    let (mut all, now) = (endpoints(), Instant::now());
    offer(&mut all, A, 1, now);
    let year = Duration::from_hours(8_760);
    all.done(A, &Contact::Slower(Some(year), "429".into()), SECOND, now);
    assert_eq!(offer(&mut all, A, 1, now + 59 * SECOND), [0, 0, 1]);
    assert_eq!(offer(&mut all, A, 1, now + 60 * SECOND), [1, 0, 0]);
}

#[test]
fn what_is_given_back_comes_again_within_a_minute_of_the_rests_end() {
    let (mut all, now) = (endpoints(), Instant::now());
    offer(&mut all, A, 4, now);
    for _ in 0..4 {
        all.done(A, &failing(), 15 * SECOND, now);
    }
    for item in 0..1_000 {
        let Placed::Later(_, wait, _) = all.offer(A, item, now) else {
            panic!("it rests");
        };
        assert!((5 * SECOND..=65 * SECOND).contains(&wait), "{wait:?}");
    }
}

#[test]
fn idle_receivers_are_forgotten_and_resting_ones_are_not() {
    let (mut all, now) = (endpoints(), Instant::now());
    offer(&mut all, A, 3, now);
    for _ in 0..3 {
        all.done(A, &failing(), SECOND, now);
    }
    for at in 0..2 * REMEMBERED {
        let name = format!("https://{at}.example:443");
        offer(&mut all, &name, 1, now);
        all.done(&name, &Contact::Well, SECOND, now);
    }
    assert!(all.all.len() <= REMEMBERED);
    assert_eq!(offer(&mut all, A, 1, now), [0, 0, 1]);
}
