//! What a series counted in each minute of the last hour, by coarse latency: a heatmap's cells.
//!
//! Promises: bounded memory, an idle minute keeps nothing; a minute is the difference of two
//! cumulative snapshots, so no sample is lost or counted twice. Never reads a clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::snapshot::Snapshot;

/// A column's length.
pub const COLUMN: Duration = Duration::from_mins(1);

/// Columns that are kept, the one that is being filled not among them.
pub const COLUMNS: usize = 60;

/// Rows: below 1 ms, then two an octave up to 741 s, and what is longer.
pub const ROWS: usize = 41;

/// Where the second row begins, in microseconds.
const BASE: f64 = 1_000.0;

/// Rows an octave.
const STEPS: f64 = 2.0;

/// Counts of one column, from the first row that has any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// The row of the first count.
    pub first: usize,
    /// Counts by row; none where nothing was counted.
    pub counts: Box<[u64]>,
}

/// The columns up to the one that is being filled, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// How much of the last column has passed.
    pub filled: Duration,
    /// At most `COLUMNS` and one more.
    pub columns: Vec<Column>,
}

/// The lowest latency of each row; the first is zero.
pub fn rows() -> [Duration; ROWS] {
    std::array::from_fn(|row| match u32::try_from(row) {
        Ok(above @ 1..) => {
            let micros = BASE * (f64::from(above - 1) / STEPS).exp2();
            Duration::from_secs_f64(micros / 1e6)
        }
        _ => Duration::ZERO,
    })
}

/// The row of a latency in microseconds.
fn row(micros: u64) -> usize {
    let ratio = micros as f64 / BASE;
    if ratio < 1.0 {
        return 0;
    }
    // Between 0 and 64 octaves.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let above = (ratio.log2() * STEPS) as usize;
    (above + 1).min(ROWS - 1)
}

impl Column {
    fn of(snapshot: &Snapshot) -> Self {
        let mut counts = [0; ROWS];
        for (micros, count) in snapshot.values() {
            counts[row(micros)] += count;
        }
        let first = counts.iter().position(|count| *count > 0);
        let last = counts.iter().rposition(|count| *count > 0);
        let (Some(first), Some(last)) = (first, last) else {
            return Self::default();
        };
        let counts = counts[first..=last].into();
        Self { first, counts }
    }
}

/// The last hour of one series.
#[derive(Debug, Default)]
pub struct Heat {
    /// When the column that is being filled began, and what had been counted by then.
    began: Duration,
    before: Arc<Snapshot>,
    latest: Duration,
    columns: VecDeque<Column>,
}

impl Heat {
    /// Closes the columns that are over; `counted`: all that was counted up to `now`.
    pub fn tick(&mut self, now: Duration, counted: &Arc<Snapshot>) {
        self.latest = now;
        let mut over = now.saturating_sub(self.began).as_secs() / COLUMN.as_secs();
        if over == 0 {
            return;
        }
        // A process that was stopped for hours has nothing of the time between.
        if over > COLUMNS as u64 {
            self.columns.clear();
            self.began = now.saturating_sub(COLUMN);
            over = 1;
        }
        for passed in 0..over {
            let column = match passed {
                0 => Column::of(&counted.since(&self.before)),
                _ => Column::default(),
            };
            self.columns.push_back(column);
            self.began += COLUMN;
        }
        while self.columns.len() > COLUMNS {
            self.columns.pop_front();
        }
        self.before = counted.clone();
    }

    /// What stands in the columns; `counted`: all that was counted up to now.
    pub fn columns(&self, counted: &Snapshot) -> Columns {
        let last = Column::of(&counted.since(&self.before));
        let columns = self.columns.iter().cloned().chain([last]).collect();
        let filled = self.latest.saturating_sub(self.began);
        Columns { filled, columns }
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::*;

    fn counted(heat: &Heat, series: &Series) -> Vec<u64> {
        let all = heat.columns(&series.cumulative());
        let sum = |column: &Column| column.counts.iter().sum();
        all.columns.iter().map(sum).collect()
    }

    #[test]
    fn every_latency_lies_in_the_row_that_says_so() {
        let rows = rows();
        for millis in [0, 1, 2, 3, 5, 9, 100, 1_500, 60_000, 700_000, 3_000_000] {
            let duration = Duration::from_millis(millis);
            let at = row(u64::try_from(duration.as_micros()).unwrap());
            assert!(rows[at] <= duration, "{millis}");
            assert!(
                rows.get(at + 1).is_none_or(|next| duration < *next),
                "{millis}"
            );
        }
        assert!(rows.is_sorted());
        assert_eq!(rows[3], Duration::from_millis(2));
    }

    #[test]
    fn a_minute_has_what_was_counted_in_it_and_leaves_after_an_hour() {
        let (series, mut heat) = (Series::new(1), Heat::default());
        for second in 1..=150 {
            series.record(Duration::from_millis(second));
            heat.tick(Duration::from_secs(second), &Arc::new(series.cumulative()));
        }
        assert_eq!(counted(&heat, &series), [60, 60, 30]);
        let all = heat.columns(&series.cumulative());
        assert_eq!(all.filled, Duration::from_secs(30));
        assert!(all.columns[0].first < all.columns[2].first);
        for minute in 3..=COLUMNS as u64 + 2 {
            let now = Duration::from_secs(60 * minute);
            heat.tick(now, &Arc::new(series.cumulative()));
        }
        let left = counted(&heat, &series);
        assert_eq!((left.len(), left[0], left[1]), (COLUMNS + 1, 30, 0));
    }

    #[test]
    fn a_pause_leaves_a_gap_and_a_long_one_nothing() {
        let (series, mut heat) = (Series::new(1), Heat::default());
        series.record(Duration::from_millis(7));
        let mut tick = |seconds| {
            heat.tick(Duration::from_secs(seconds), &Arc::new(series.cumulative()));
            counted(&heat, &series)
        };
        assert_eq!(tick(200), [1, 0, 0, 0]);
        series.record(Duration::from_millis(7));
        assert_eq!(tick(100_000), [1, 0]);
    }
}
