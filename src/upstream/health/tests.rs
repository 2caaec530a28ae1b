use super::*;

fn eject(health: &Health, now: Instant) {
    for _ in 0..FAILURES {
        health.failed(now, now);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_and_a_probe_brings_it_back() {
    let (health, now) = (Health::default(), Instant::now());
    for _ in 0..FAILURES - 1 {
        health.failed(now, now);
    }
    health.succeeded(now);
    health.failed(now, now);
    assert_eq!(health.admission(now), Admission::Open);
    eject(&health, now);
    assert_eq!(health.admission(now), Admission::Closed);
    let later = now + FIRST;
    assert_eq!(health.admission(later), Admission::HalfOpen);
    assert!(health.probe(later));
    assert!(!health.probe(later));
    assert_eq!(health.admission(later), Admission::Closed);
    assert_eq!(health.closed_for(later), Some(Duration::ZERO));
    health.succeeded(later);
    assert_eq!(health.admission(later), Admission::Open);
}

#[tokio::test(start_paused = true)]
async fn each_failed_probe_doubles_the_time_up_to_the_longest() {
    let health = Health::default();
    let mut now = Instant::now();
    eject(&health, now);
    let mut expected = FIRST;
    for _ in 0..12 {
        assert_eq!(
            health.admission(now + expected - Duration::from_micros(1)),
            Admission::Closed
        );
        now += expected;
        assert_eq!(health.admission(now), Admission::HalfOpen);
        assert!(health.probe(now));
        health.failed(now, now);
        expected = (expected * 2).min(LONGEST);
    }
    assert_eq!(expected, LONGEST);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_stays_worse_than_its_peers_is_left_alone_longer_each_time() {
    let health = Health::default();
    let mut now = Instant::now();
    for time in [FIRST, 2 * FIRST, 4 * FIRST] {
        health.worse_than_peers(now);
        assert_eq!(
            health.admission(now + time - Duration::from_micros(1)),
            Admission::Closed
        );
        now += time;
        assert_eq!(health.admission(now), Admission::HalfOpen);
        // A lucky probe opens it and does not clear it.
        assert!(health.probe(now));
        health.succeeded(now);
        assert_eq!(health.admission(now), Admission::Open);
    }
    assert_eq!(health.ejections(), 3);
    for _ in 0..5 {
        health.like_its_peers();
    }
    health.worse_than_peers(now);
    assert_eq!(health.admission(now + FIRST), Admission::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn late_successes_of_calls_from_before_do_not_end_it() {
    let (health, before) = (Health::default(), Instant::now());
    let now = before + Duration::from_secs(1);
    eject(&health, now);
    health.succeeded(before);
    assert_eq!(health.admission(now), Admission::Closed);
    let later = now + FIRST;
    assert!(health.probe(later));
    health.succeeded(before);
    assert_eq!(health.admission(later), Admission::Closed);
    health.failed(before, later);
    health.succeeded(later);
    assert_eq!(health.admission(later), Admission::Open);
}

#[tokio::test(start_paused = true)]
async fn late_failures_of_calls_from_before_do_not_make_it_longer() {
    let (health, now) = (Health::default(), Instant::now());
    eject(&health, now);
    for _ in 0..50 {
        health.failed(now - Duration::from_secs(1), now + Duration::from_secs(1));
    }
    assert_eq!(health.admission(now + FIRST), Admission::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn what_hung_since_before_an_ejection_ejects_nobody_who_came_back() {
    let (health, before) = (Health::default(), Instant::now());
    let now = before + Duration::from_secs(1);
    eject(&health, now);
    let later = now + FIRST;
    assert!(health.probe(later));
    health.succeeded(later);
    for _ in 0..50 {
        health.failed(before, later);
    }
    assert_eq!(health.admission(later), Admission::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_fails_though_others_were_given_up_meanwhile() {
    let (health, before) = (Health::default(), Instant::now());
    let now = before + Duration::from_secs(1);
    eject(&health, now);
    let later = now + FIRST;
    assert!(health.probe(later));
    health.given_up(before);
    health.failed(later, later);
    assert_eq!(health.closed_for(later), Some(2 * FIRST));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_frees_its_place() {
    let (health, now) = (Health::default(), Instant::now());
    eject(&health, now);
    let later = now + FIRST;
    assert!(health.probe(later));
    // Of a call that was sent before it, or beside it as there was no other target, nothing follows.
    for other in [now, later + Duration::from_micros(1)] {
        health.given_up(other);
        assert_eq!(health.admission(later), Admission::Closed);
    }
    health.given_up(later);
    assert_eq!(health.admission(later), Admission::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_sent_later_than_it_was_picked_is_the_probe_still() {
    let (health, now) = (Health::default(), Instant::now());
    eject(&health, now);
    let picked = now + FIRST;
    let sent = picked + Duration::from_secs(1);
    assert!(health.probe(picked));
    // What had no place moves none.
    health.probes_from(now, sent);
    health.probes_from(picked, sent);
    assert_eq!(health.admission(picked + PROBE), Admission::Closed);
    health.failed(sent, sent);
    assert_eq!(health.closed_for(sent), Some(2 * FIRST));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hears_nothing_does_not_keep_its_place() {
    let (health, now) = (Health::default(), Instant::now());
    eject(&health, now);
    let later = now + FIRST;
    assert!(health.probe(later));
    let still = later + PROBE - Duration::from_micros(1);
    assert_eq!(health.admission(still), Admission::Closed);
    assert!(health.probe(later + PROBE));
    assert!(!health.probe(later + PROBE));
}

#[tokio::test(start_paused = true)]
async fn who_is_closed_says_for_how_long() {
    let (health, now) = (Health::default(), Instant::now());
    assert_eq!(health.closed_for(now), None);
    health.rest(Duration::from_secs(2), now, now);
    assert_eq!(health.closed_for(now), Some(Duration::from_secs(2)));
    eject(&health, now);
    assert_eq!(health.closed_for(now), Some(FIRST));
    assert_eq!(health.closed_for(now + FIRST), None);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_asks_for_rest_gets_it_and_is_not_ejected() {
    let (health, now) = (Health::default(), Instant::now());
    health.rest(Duration::from_secs(3), now, now);
    assert_eq!(
        health.admission(now + Duration::from_secs(2)),
        Admission::Closed
    );
    assert_eq!(
        health.admission(now + Duration::from_secs(3)),
        Admission::Open
    );
}
