//! A histogram on the wire: classic buckets, and native ones made of a snapshot.
//!
//! Promises: each sample is in one native bucket, to the 0.1% that a cell is wide.
//! Sources: `metrics.proto` of `prometheus/client_model`; Prometheus's "Native Histograms" specification.

use std::sync::LazyLock;
use std::time::Duration;

use crate::latency::Snapshot;

/// Buckets an octave: 2^3, so that one is 9% wide, as of Prometheus's own clients.
const SCHEMA: i32 = 3;

/// The native buckets' indices: above 2^-20 s (a microsecond) to 2^19 s (over four days).
const BUCKETS: std::ops::RangeInclusive<i32> = (-20 << SCHEMA) + 1..=(19 << SCHEMA);

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Bucket {
    #[prost(uint64, tag = "1")]
    pub cumulative_count: u64,
    #[prost(double, tag = "2")]
    pub upper_bound: f64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Span {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    #[prost(uint64, tag = "1")]
    pub count: u64,
    #[prost(double, tag = "2")]
    pub sum: f64,
    #[prost(message, repeated, tag = "3")]
    pub buckets: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    pub schema: i32,
    #[prost(double, tag = "6")]
    pub zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    pub zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    pub spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    pub deltas: Vec<i64>,
}

/// The upper bound of a native bucket, in seconds.
fn bound(index: i32) -> f64 {
    2f64.powf(f64::from(index) / f64::from(1 << SCHEMA))
}

impl Histogram {
    /// Spans of buckets that are not empty, each count as its difference to the one before. The classic
    /// buckets are not known of it.
    pub fn of(snapshot: &Snapshot) -> Self {
        static LIMITS: LazyLock<Vec<Duration>> = LazyLock::new(|| {
            (BUCKETS.start() - 1..=*BUCKETS.end())
                .map(|index| Duration::from_secs_f64(bound(index)))
                .collect()
        });
        let up_to = snapshot.counts_to(&LIMITS);
        let mut histogram = Self {
            schema: SCHEMA,
            zero_threshold: bound(BUCKETS.start() - 1),
            zero_count: up_to[0],
            ..Self::default()
        };
        let (mut free, mut before) = (0, 0);
        for (index, pair) in BUCKETS.zip(up_to.windows(2)) {
            let count = i64::try_from(pair[1] - pair[0]).expect("fewer than 2^63 samples");
            if count == 0 {
                continue;
            }
            match histogram.spans.last_mut() {
                Some(span) if index == free => span.length += 1,
                _ => histogram.spans.push(Span {
                    offset: index - free,
                    length: 1,
                }),
            }
            histogram.deltas.push(count - before);
            (free, before) = (index + 1, count);
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_native_histogram_counts_each_sample_within_its_bucket(
            values in prop::collection::vec(0..345_600_000u64, 1..200)
        ) {
            let histogram = Histogram::of(&Snapshot::of(&values));
            let (mut index, mut count, mut all) = (0, 0, histogram.zero_count);
            let mut deltas = histogram.deltas.iter();
            for span in &histogram.spans {
                index += span.offset;
                for _ in 0..span.length {
                    count += deltas.next().unwrap();
                    let bound = |at: i32| 2f64.powf(f64::from(at) / 8.0) * 1e3;
                    // A cell is 0.1% wide: what lies so near to a bound may be on its other side.
                    let (low, high) = (bound(index - 1), bound(index));
                    let sure = |slack: f64| values.iter().filter(|one| {
                        let value = **one as f64;
                        value > low * (1.0 + slack) && value <= high * (1.0 - slack)
                    }).count();
                    let counted = usize::try_from(count).unwrap();
                    prop_assert!((sure(0.002)..=sure(-0.002)).contains(&counted), "{index}: {count}");
                    all += counted as u64;
                    index += 1;
                }
            }
            prop_assert!(deltas.next().is_none());
            prop_assert_eq!(all, values.len() as u64);
        }
    }
}
