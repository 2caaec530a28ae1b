//! An immutable histogram: what was counted, as pairs of cell and count.
//!
//! Promises: quantiles are HdrHistogram's (the highest value of the cell that holds the rank);
//! sizes grow with the number of different cells, not with the range. Never changes.

use std::fmt::Write as _;
use std::time::Duration;

use super::layout::{bounds, micros};

/// A histogram that no longer changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Cell and count, by cell, counts above zero.
    cells: Box<[(u16, u64)]>,
    count: u64,
}

/// The figures that dashboards ask for; durations, zero where nothing was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Samples.
    pub count: u64,
    /// Median.
    pub p50: Duration,
    /// 90th percentile.
    pub p90: Duration,
    /// 95th percentile.
    pub p95: Duration,
    /// 99th percentile.
    pub p99: Duration,
    /// 99.9th percentile.
    pub p999: Duration,
    /// Largest.
    pub max: Duration,
}

impl Snapshot {
    /// From pairs ordered by cell.
    pub(super) fn from_cells(cells: Vec<(u16, u64)>) -> Self {
        Self {
            count: cells.iter().map(|(_, count)| count).sum(),
            cells: cells.into_boxed_slice(),
        }
    }

    /// Cell and count, by cell.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u16, u64)> {
        self.cells.iter().copied()
    }

    /// What was counted here and not in an earlier snapshot of the same series.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.without(earlier.pairs())
    }

    /// The same, of an earlier snapshot's pairs.
    pub(super) fn without(&self, earlier: impl Iterator<Item = (u16, u64)>) -> Self {
        let mut before = earlier.peekable();
        let mut cells = Vec::with_capacity(self.cells.len());
        for &(cell, count) in &self.cells {
            while before.next_if(|(other, _)| *other < cell).is_some() {}
            let gone = before
                .next_if(|(other, _)| *other == cell)
                .map_or(0, |(_, count)| count);
            if count > gone {
                cells.push((cell, count - gone));
            }
        }
        Self::from_cells(cells)
    }

    /// The highest value of each cell in microseconds, and its count; ascending.
    pub(super) fn values(&self) -> impl Iterator<Item = (u64, u64)> {
        self.cells
            .iter()
            .map(|&(cell, count)| (bounds(cell).1, count))
    }

    /// Samples.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value below or at which this share of the samples lies; zero when there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = rank(share, self.count);
        let mut seen = 0;
        for &(cell, count) in &self.cells {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(bounds(cell).1);
            }
        }
        Duration::ZERO
    }

    /// The values at or below which these shares of the samples lie; shares ascending.
    pub fn quantiles(&self, shares: &[f64]) -> Vec<Duration> {
        let mut cells = self.cells.iter();
        let (mut seen, mut value) = (0, Duration::ZERO);
        let mut at = |share: f64| {
            let wanted = rank(share, self.count);
            while seen < wanted {
                let Some((cell, count)) = cells.next() else {
                    break;
                };
                seen += count;
                value = Duration::from_micros(bounds(*cell).1);
            }
            value
        };
        shares.iter().map(|share| at(*share)).collect()
    }

    /// The largest sample, to three digits.
    pub fn max(&self) -> Duration {
        self.cells.last().map_or(Duration::ZERO, |(cell, _)| {
            Duration::from_micros(bounds(*cell).1)
        })
    }

    /// The sum of all samples in seconds, each taken as the middle of its cell.
    pub fn sum_seconds(&self) -> f64 {
        let middle = |cell| {
            let (low, high) = bounds(cell);
            (low + high) as f64 / 2e6
        };
        self.cells
            .iter()
            .map(|&(cell, count)| middle(cell) * count as f64)
            .sum()
    }

    /// The mean; zero when there are no samples.
    pub fn mean(&self) -> Duration {
        if self.count == 0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(self.sum_seconds() / self.count as f64)
    }

    /// How many samples lie at or below each limit; limits ascending. A cell that a limit cuts
    /// counts below it when its lowest value does: an error of at most 0.1% of the limit.
    pub fn counts_to(&self, limits: &[Duration]) -> Vec<u64> {
        let mut cells = self.cells.iter().peekable();
        let mut seen = 0;
        let mut counts = Vec::with_capacity(limits.len());
        for limit in limits {
            let limit = micros(*limit);
            while let Some((_, count)) = cells.next_if(|(cell, _)| bounds(*cell).0 <= limit) {
                seen += count;
            }
            counts.push(seen);
        }
        counts
    }

    /// Samples above a limit; what `counts_to` counts not.
    pub fn count_above(&self, limit: Duration) -> u64 {
        self.count - self.counts_to(&[limit])[0]
    }

    /// The figures that dashboards ask for.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.max(),
        }
    }

    /// HdrHistogram's percentile output (`.hgrm`), values in milliseconds: one line per cell.
    pub fn hgrm(&self) -> String {
        let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
        let mut seen = 0;
        for &(cell, count) in &self.cells {
            seen += count;
            let share = seen as f64 / self.count as f64;
            let value = bounds(cell).1 as f64 / 1e3;
            // Writing to a string cannot fail.
            let _ = if seen == self.count {
                writeln!(text, "{value:12.3} {share:2.12} {seen:10}")
            } else {
                let inverse = 1.0 / (1.0 - share);
                writeln!(text, "{value:12.3} {share:2.12} {seen:10} {inverse:14.2}")
            };
        }
        let _ = writeln!(
            text,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n#[Buckets = {:12}, SubBuckets     = {:12}]",
            self.mean().as_secs_f64() * 1e3,
            self.deviation() * 1e3,
            self.max().as_secs_f64() * 1e3,
            self.count,
            super::layout::BLOCKS,
            super::layout::block_len(0),
        );
        text
    }

    /// Standard deviation in seconds.
    fn deviation(&self) -> f64 {
        let mean = self.mean().as_secs_f64();
        let squares: f64 = self
            .cells
            .iter()
            .map(|&(cell, count)| {
                let (low, high) = bounds(cell);
                let away = (low + high) as f64 / 2e6 - mean;
                away * away * count as f64
            })
            .sum();
        (squares / (self.count.max(1) as f64)).sqrt()
    }
}

#[cfg(test)]
impl Snapshot {
    /// Of these milliseconds.
    pub fn of(millis: &[u64]) -> Self {
        let series = super::series::Series::new(1);
        for value in millis {
            series.record(Duration::from_millis(*value));
        }
        series.cumulative()
    }
}

/// The number of the sample at a quantile, from 1.
fn rank(share: f64, count: u64) -> u64 {
    // Truncation is meant, and a share outside 0..=1 is taken as the nearest end.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let wanted = (share.clamp(0.0, 1.0) * count as f64).ceil() as u64;
    wanted.max(1)
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::*;

    #[test]
    fn an_empty_histogram_answers_with_zeros() {
        let empty = Snapshot::default();
        assert_eq!(empty.summary(), Summary::default());
        assert_eq!(empty.count_above(Duration::ZERO), 0);
        assert_eq!(empty.mean(), Duration::ZERO);
    }

    #[test]
    fn since_takes_off_what_was_there_before() {
        let series = Series::new(1);
        series.record(Duration::from_millis(5));
        let before = series.cumulative();
        series.record(Duration::from_millis(5));
        series.record(Duration::from_millis(9));
        let later = series.cumulative().since(&before);
        assert_eq!(later, Snapshot::of(&[5, 9]));
        assert_eq!(before.since(&before), Snapshot::default());
    }

    #[test]
    fn shares_and_counts_agree_with_the_samples() {
        let snapshot = Snapshot::of(&[10, 20, 30, 40]);
        assert_eq!(snapshot.count_above(Duration::from_millis(25)), 2);
        let limits = [5, 10, 35, 1_000].map(Duration::from_millis);
        assert_eq!(snapshot.counts_to(&limits), [0, 1, 3, 4]);
        assert!((snapshot.sum_seconds() - 0.1).abs() < 1e-4);
        let max = snapshot.max().as_secs_f64();
        assert!((0.040..0.0401).contains(&max));
    }

    #[test]
    fn the_plotter_gets_its_columns_and_its_footer() {
        let text = Snapshot::of(&[10, 20]).hgrm();
        assert!(text.contains("Value     Percentile TotalCount"));
        assert!(text.contains("#[Mean "));
        assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), 3);
    }
}
