//! Moments of the wall clock, for what outlives the process.

use std::fmt;

use serde::Serialize;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The wall clock, for what outlives the process; waits use tokio's clock.
    pub fn now() -> Self {
        #[cfg(test)]
        if let Some(now) = virtual_clock::now() {
            return now;
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
    }

    /// This moment and a duration later.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// From this moment to a later one; zero when it has passed.
    pub fn until(self, later: Self) -> std::time::Duration {
        let millis = later.0.saturating_sub(self.0);
        std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// A wall clock that moves with tokio's, for tests on virtual time.
#[cfg(test)]
pub mod virtual_clock {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::UnixMillis;

    thread_local! {
        static BEGAN: Cell<Option<(UnixMillis, Instant)>> = const { Cell::new(None) };
    }

    /// This thread's wall clock shows `now` and moves with tokio's from here on.
    pub fn begin(now: UnixMillis) {
        BEGAN.set(Some((now, Instant::now())));
    }

    pub(super) fn now() -> Option<UnixMillis> {
        BEGAN.get().map(|(then, began)| then.plus(began.elapsed()))
    }
}

impl fmt::Display for UnixMillis {
    /// RFC 3339 with milliseconds, in UTC.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(moment) => write!(out, "{moment:.3}"),
            Err(_) => write!(out, "1970-01-01T00:00:00.000Z"),
        }
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_with_milliseconds() {
        assert_eq!(
            UnixMillis(1_795_514_400_123).to_string(),
            "2026-11-24T10:00:00.123Z"
        );
        assert_eq!(
            UnixMillis(1_795_514_400_000).to_string(),
            "2026-11-24T10:00:00.000Z"
        );
    }
}
