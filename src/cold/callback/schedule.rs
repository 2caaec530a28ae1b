//! When a delivery is tried again: the schedule of the Standard Webhooks spec, with jitter.

use std::time::Duration;

/// Longest wait that a receiver can ask for with `Retry-After`.
const LONGEST: Duration = Duration::from_hours(24);

/// The wait before the next delivery, or none when the schedule is used up. `done` deliveries
/// were tried; `random` is drawn from 0 to 1; the wait lies within `jitter` (a share) around the
/// schedule's, and is at least what the receiver asked for.
pub fn next(
    schedule: &[Duration],
    done: u32,
    jitter: f64,
    random: f64,
    retry_after: Option<Duration>,
) -> Option<Duration> {
    let at = usize::try_from(done.checked_sub(1)?).ok()?;
    let wait = schedule.get(at)?;
    let factor = 1.0 + jitter * (2.0 * random - 1.0);
    let wait = wait.mul_f64(factor.max(0.0));
    Some(wait.max(retry_after.unwrap_or_default().min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(5)];

    #[test]
    fn each_delivery_has_its_wait_and_after_the_last_there_is_none() {
        assert_eq!(next(&SCHEDULE, 1, 0.0, 0.5, None), Some(SCHEDULE[0]));
        assert_eq!(next(&SCHEDULE, 2, 0.0, 0.5, None), Some(SCHEDULE[1]));
        assert_eq!(next(&SCHEDULE, 3, 0.0, 0.5, None), None);
        assert_eq!(next(&SCHEDULE, 0, 0.0, 0.5, None), None);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        assert_eq!(
            next(&SCHEDULE, 1, 0.2, 0.0, None),
            Some(Duration::from_secs(4))
        );
        assert_eq!(
            next(&SCHEDULE, 1, 0.2, 1.0, None),
            Some(Duration::from_secs(6))
        );
    }

    #[test]
    fn a_receiver_can_ask_for_more_time_and_not_for_ever() {
        let minute = Duration::from_mins(1);
        assert_eq!(next(&SCHEDULE, 1, 0.0, 0.5, Some(minute)), Some(minute));
        let year = Duration::from_hours(8760);
        assert_eq!(next(&SCHEDULE, 1, 0.0, 0.5, Some(year)), Some(LONGEST));
    }
}
