//! How fast a stream's tokens come, over the last ten seconds.
//!
//! Promises: nothing is said of a stream's first ten seconds; a stream that keeps its rate over
//! every ten seconds is never called slow.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds over which the rate is taken.
const WINDOW: usize = 10;

/// The tokens of a stream's last seconds.
pub struct Pace {
    /// Tokens that ten seconds must have.
    least: u64,
    /// When the running second began.
    second: Instant,
    /// Full seconds before it, the oldest first; `None`: the stream had not begun.
    before: [Option<u64>; WINDOW],
    /// Tokens of the running second.
    now: u64,
}

impl Pace {
    /// A stream whose first token came now; `None` where no rate is asked for.
    pub fn new(tokens_a_second: u32, now: Instant) -> Option<Self> {
        (tokens_a_second > 0).then(|| Self {
            least: u64::from(tokens_a_second) * WINDOW as u64,
            second: now,
            before: [None; WINDOW],
            now: 0,
        })
    }

    /// When `too_slow` may say something else.
    pub fn next(&self) -> Instant {
        self.second + Duration::from_secs(1)
    }

    /// Tokens came.
    pub fn saw(&mut self, tokens: u64, now: Instant) {
        self.advance(now);
        self.now += tokens;
    }

    /// Whether the last ten full seconds had too few tokens.
    pub fn too_slow(&mut self, now: Instant) -> bool {
        self.advance(now);
        let told: Option<u64> = self.before.iter().copied().sum();
        told.is_some_and(|tokens| tokens < self.least)
    }

    fn advance(&mut self, now: Instant) {
        // After a long silence the window is empty: no need to walk all of it.
        for _ in 0..=WINDOW {
            if now < self.next() {
                return;
            }
            self.before.rotate_left(1);
            self.before[WINDOW - 1] = Some(std::mem::take(&mut self.now));
            self.second = self.next();
        }
        self.second = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_slow_once_ten_seconds_had_too_few_tokens() {
        let began = Instant::now();
        assert!(Pace::new(0, began).is_none());
        let mut pace = Pace::new(2, began).expect("a rate is asked for");
        let at = |millis| began + Duration::from_millis(millis);
        for half in 0..24 {
            pace.saw(1, at(half * 500));
            assert!(!pace.too_slow(at(half * 500)), "at half second {half}");
        }
        // One token a second from here: the tenth such second leaves 10, the first leaves 19.
        assert!(!pace.too_slow(at(12_000)));
        pace.saw(1, at(12_100));
        assert!(pace.too_slow(at(13_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_ten_seconds_are_forgiven_and_a_long_silence_is_not() {
        let began = Instant::now();
        let mut pace = Pace::new(1, began).expect("a rate is asked for");
        assert!(!pace.too_slow(began + Duration::from_millis(9_999)));
        assert!(pace.too_slow(began + Duration::from_secs(10)));
        assert!(pace.too_slow(began + Duration::from_hours(1)));
        assert!(pace.next() > began + Duration::from_hours(1));
    }
}
