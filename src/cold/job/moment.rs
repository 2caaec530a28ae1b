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

/// A wall clock that moves with tokio's, for tests on virtual time; it can be made to jump.
#[cfg(test)]
pub mod virtual_clock {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::UnixMillis;

    thread_local! {
        /// What it showed, and when: at its beginning and after each jump.
        static SHOWN: RefCell<Vec<(UnixMillis, Instant)>> = const { RefCell::new(Vec::new()) };
    }

    /// This thread's wall clock shows `now` and moves with tokio's from here on.
    pub fn begin(now: UnixMillis) {
        SHOWN.replace(vec![(now, Instant::now())]);
    }

    /// It is set so many milliseconds ahead, or back.
    pub fn jump(millis: i64) {
        let now = now().expect("it was begun");
        let now = (UnixMillis(now.0 + millis), Instant::now());
        SHOWN.with_borrow_mut(|shown| shown.push(now));
    }

    /// The moments at which it showed this, in order; if it never did, its beginning.
    pub fn shown(at: UnixMillis) -> Vec<Instant> {
        SHOWN.with_borrow(|shown| {
            let spans = shown.iter().enumerate();
            let moments = spans.filter_map(|(place, (from, began))| {
                let moment = *began + (*from <= at).then(|| from.until(at))?;
                let next = shown.get(place + 1);
                next.is_none_or(|(_, until)| moment <= *until)
                    .then_some(moment)
            });
            let mut moments: Vec<_> = moments.collect();
            if moments.is_empty() {
                moments.push(shown[0].1);
            }
            moments
        })
    }

    pub(super) fn now() -> Option<UnixMillis> {
        SHOWN.with_borrow(|shown| {
            let (then, began) = shown.last()?;
            Some(then.plus(began.elapsed()))
        })
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
