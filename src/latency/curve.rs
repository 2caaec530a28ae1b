//! A percentile curve as HdrHistogram draws it: evenly spaced in log(1/(1-p)).

use std::time::Duration;

use super::snapshot::Snapshot;

/// Points a factor of ten: from p90 to p99, and from p99 to p99.9.
const STEPS: u32 = 16;

/// Points at most: up to one in a hundred million.
const MOST: u32 = 8 * STEPS;

/// Share and latency, ascending, up to the largest sample at share 1; empty where nothing was
/// counted. One sample is at most as far out as the samples are many.
pub fn curve(snapshot: &Snapshot) -> Vec<(f64, Duration)> {
    let count = snapshot.count();
    if count == 0 {
        return Vec::new();
    }
    let above = |step: u32| 10f64.powf(f64::from(step) / f64::from(STEPS));
    let steps = (0..MOST).take_while(|step| above(*step) < count as f64);
    let shares: Vec<f64> = steps.map(|step| 1.0 - 1.0 / above(step)).collect();
    let values = snapshot.quantiles(&shares);
    let mut points: Vec<_> = shares.into_iter().zip(values).collect();
    points.push((1.0, snapshot.max()));
    points
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::*;

    fn of(samples: u64) -> Snapshot {
        let series = Series::new(1);
        for value in 1..=samples {
            series.record(Duration::from_millis(value));
        }
        series.cumulative()
    }

    #[test]
    fn it_rises_from_the_smallest_to_the_largest_and_agrees_with_the_quantiles() {
        let snapshot = of(1_000);
        let points = curve(&snapshot);
        assert_eq!(points.len(), 3 * STEPS as usize + 1);
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        assert!(
            points
                .iter()
                .all(|(share, value)| snapshot.quantile(*share) == *value)
        );
        let (share, value) = points[STEPS as usize];
        assert!((share - 0.9).abs() < 1e-12, "{share}");
        assert!((0.9..0.902).contains(&value.as_secs_f64()));
        assert_eq!(points.last(), Some(&(1.0, snapshot.max())));
    }

    #[test]
    fn few_samples_have_few_points() {
        assert_eq!(curve(&of(0)), []);
        assert_eq!(curve(&of(1)).len(), 1);
        assert!(curve(&of(20)).len() < 24);
    }
}
