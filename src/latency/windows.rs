//! Rolling windows of one series: the last minute, five minutes and hour.
//!
//! A window is the difference between what was counted up to now and what was counted up to its
//! beginning, so it keeps one snapshot per slot and merges nothing. Promises: readers get an
//! immutable view through an atomic pointer. Never reads a clock: `tick` is told the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::series::Series;
use super::snapshot::Snapshot;

/// A window's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// One minute.
    Minute,
    /// Five minutes.
    FiveMinutes,
    /// One hour.
    Hour,
}

impl Window {
    /// Every window.
    pub const ALL: [Self; 3] = [Self::Minute, Self::FiveMinutes, Self::Hour];

    /// Its label: `1m`, `5m`, `1h`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
        }
    }

    /// The length of a slot, and how many make the window.
    const fn slots(self) -> (Duration, usize) {
        match self {
            Self::Minute => (Duration::from_secs(5), 12),
            Self::FiveMinutes => (Duration::from_secs(30), 10),
            Self::Hour => (Duration::from_mins(5), 12),
        }
    }
}

/// What the windows of a series held at the last tick.
#[derive(Debug, Default)]
pub struct Views {
    windows: [Snapshot; 3],
}

impl Views {
    /// One window; it covers its length and the slot that is being filled.
    pub fn window(&self, window: Window) -> &Snapshot {
        &self.windows[window as usize]
    }
}

/// The boundaries of one window's slots: what had been counted when each began.
struct Ring {
    slot: Duration,
    length: usize,
    began: Duration,
    boundaries: VecDeque<Arc<Snapshot>>,
}

impl Ring {
    fn new(window: Window, now: Duration) -> Self {
        let (slot, length) = window.slots();
        Self {
            slot,
            length,
            began: now,
            boundaries: VecDeque::from([Arc::default()]),
        }
    }

    /// Begins the slots that are due and gives the window up to `counted`.
    fn advance(&mut self, now: Duration, counted: &Arc<Snapshot>) -> Snapshot {
        // After a pause longer than the window every boundary is the same: no need to count on.
        let most = u32::try_from(self.length + 1).unwrap_or(u32::MAX);
        let mut steps = 0;
        while now.saturating_sub(self.began) >= self.slot {
            self.began += self.slot;
            steps += 1;
            if steps <= most {
                self.boundaries.push_back(counted.clone());
            }
        }
        while self.boundaries.len() > self.length + 1 {
            self.boundaries.pop_front();
        }
        let oldest = self.boundaries.front().expect("a ring is never empty");
        counted.since(oldest)
    }
}

/// The windows of one series.
pub struct Windows {
    rings: [Ring; 3],
    published: Arc<ArcSwap<Views>>,
}

impl Windows {
    /// Windows that begin now; `now` counts from any fixed moment.
    pub fn new(now: Duration) -> Self {
        Self {
            rings: Window::ALL.map(|window| Ring::new(window, now)),
            published: Arc::default(),
        }
    }

    /// Reads the series and publishes the windows as they stand; meant for once a second. Gives what
    /// was counted since the beginning.
    pub fn tick(&mut self, series: &Series, now: Duration) -> Arc<Snapshot> {
        let counted = Arc::new(series.cumulative());
        let windows = self
            .rings
            .each_mut()
            .map(|ring| ring.advance(now, &counted));
        self.published.store(Arc::new(Views { windows }));
        counted
    }

    /// Where readers find the latest views.
    pub fn published(&self) -> Arc<ArcSwap<Views>> {
        self.published.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Duration = Duration::from_millis(7);

    fn counts(windows: &Windows) -> [u64; 3] {
        let views = windows.published().load_full();
        Window::ALL.map(|window| views.window(window).count())
    }

    #[test]
    fn a_sample_is_seen_at_the_next_tick_and_leaves_each_window_in_its_time() {
        let series = Series::new(1);
        let mut windows = Windows::new(Duration::ZERO);
        series.record(SAMPLE);
        let mut left = [0u64; 3];
        for second in 1..=4_000 {
            windows.tick(&series, Duration::from_secs(second));
            for (at, count) in counts(&windows).into_iter().enumerate() {
                if count == 0 && left[at] == 0 {
                    left[at] = second;
                }
            }
        }
        assert_eq!(left, [65, 330, 3_900]);
    }

    #[test]
    fn a_long_pause_empties_the_windows() {
        let series = Series::new(1);
        let mut windows = Windows::new(Duration::ZERO);
        series.record(SAMPLE);
        windows.tick(&series, Duration::from_secs(1));
        assert_eq!(counts(&windows), [1, 1, 1]);
        windows.tick(&series, Duration::from_secs(1_000_000));
        assert_eq!(counts(&windows), [0, 0, 0]);
    }

    #[test]
    fn steady_traffic_fills_a_window_to_its_length() {
        let series = Series::new(1);
        let mut windows = Windows::new(Duration::ZERO);
        for second in 1..=600 {
            series.record(SAMPLE);
            windows.tick(&series, Duration::from_secs(second));
        }
        let [minute, five, hour] = counts(&windows);
        assert!((60..=65).contains(&minute), "{minute}");
        assert!((300..=330).contains(&five), "{five}");
        assert_eq!(hour, 600);
    }
}
