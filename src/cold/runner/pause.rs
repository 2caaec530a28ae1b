//! When a job whose attempt failed is tried again.
//!
//! Promises: full jitter over a doubling back-off (Brooker, Exponential Backoff And Jitter, 2015), and
//! never sooner than the provider asked; an attempt that found every target of its route away is not
//! counted, so that no outage uses up a job's attempts. Pure.

use std::time::Duration;

use super::drive::Failure;
use crate::config::RouteCold;

/// What follows a failure.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Another attempt after so long.
    Again(Duration),
    /// The same, and this one does not count.
    Uncounted(Duration),
    /// The job's end.
    Nothing,
}

/// What follows a job's failure after so many attempts. `down`: nothing
/// speaks for any of its route's targets. `jitter`: from 0 to 1.
pub(super) fn after(
    failure: &Failure,
    attempts: u32,
    settings: &RouteCold,
    down: bool,
    jitter: f64,
) -> Next {
    let pause = backoff(settings, attempts).mul_f64(jitter);
    let pause = pause.max(failure.rest.unwrap_or_default());
    if failure.away && down {
        Next::Uncounted(pause)
    } else if attempts >= settings.max_attempts {
        Next::Nothing
    } else {
        Next::Again(pause)
    }
}

/// How long a job whose provider refused it for its rate waits, which asked for `rest` and has existed
/// for `age`: up to half its age more, so that its waits double. A job that is refused whatever the
/// others' fate (its caller's own limit) takes ever fewer of the turns that a limited provider leaves.
pub(super) fn refused(
    rest: Duration,
    age: Duration,
    settings: &RouteCold,
    jitter: f64,
) -> Duration {
    let more = (age / 2).min(settings.backoff_max.get());
    rest.saturating_add(more.mul_f64(jitter))
}

/// The longest pause after so many attempts, where the provider asks for none.
fn backoff(settings: &RouteCold, attempts: u32) -> Duration {
    let doubled = 2u32.saturating_pow(attempts.saturating_sub(1).min(20));
    let most = settings.backoff.get().saturating_mul(doubled);
    most.min(settings.backoff_max.get())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cold::job::JobError;

    fn failure(rest: Option<Duration>, away: bool) -> Failure {
        Failure {
            error: JobError::new("provider_error", "the provider answered 503"),
            answer: None,
            rest,
            away,
        }
    }

    #[test]
    fn an_outage_of_all_targets_uses_up_no_attempt() {
        let settings = RouteCold::default();
        let (last, second) = (settings.max_attempts, Duration::from_secs(1));
        let next = |away, down| after(&failure(None, away), last, &settings, down, 0.0);
        assert_eq!(next(true, true), Next::Uncounted(Duration::ZERO));
        // Another target takes calls, or the failure may be the call's own.
        assert_eq!(next(true, false), Next::Nothing);
        assert_eq!(next(false, true), Next::Nothing);
        let first = after(&failure(None, false), 1, &settings, true, 1.0);
        assert_eq!(first, Next::Again(second));
    }

    #[test]
    fn who_is_refused_again_and_again_comes_back_ever_more_seldom() {
        let (settings, second) = (RouteCold::default(), Duration::from_secs(1));
        let (mut age, mut tries) = (Duration::ZERO, 0);
        while age < Duration::from_mins(2) {
            age += refused(second, age, &settings, 0.5);
            tries += 1;
        }
        assert!(tries < 25, "{tries} tries in two minutes");
        let most = second + settings.backoff_max.get();
        assert_eq!(
            refused(second, Duration::from_hours(9), &settings, 1.0),
            most
        );
        assert_eq!(refused(second, age, &settings, 0.0), second);
    }

    proptest! {
        #[test]
        fn a_pause_is_at_least_what_the_provider_asks_and_else_at_most_the_backoff(
            attempts in 1..5u32,
            millis in prop::option::of(0..600_000u64),
            jitter in 0.0..1.0f64,
        ) {
            let (settings, rest) = (RouteCold::default(), millis.map(Duration::from_millis));
            let next = after(&failure(rest, true), attempts, &settings, true, jitter);
            let Next::Uncounted(pause) = next else {
                return Err(TestCaseError::fail("it is counted"));
            };
            let most = Duration::from_secs(1 << (attempts - 1)).min(settings.backoff_max.get());
            prop_assert!(pause >= rest.unwrap_or_default());
            prop_assert!(pause <= most.max(rest.unwrap_or_default()));
        }
    }
}
