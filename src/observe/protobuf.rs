//! A scrape in Prometheus's protobuf format, with native histograms beside the classic ones.
//!
//! Promises: the series of the text format, since they are read from that text; a native histogram
//! counts the samples of its classic one. Never changes what a text scrape says.
//! Sources: `metrics.proto` of `prometheus/client_model`; Prometheus's "Native Histograms" specification.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;

use crate::latency::Snapshot;

/// What a scrape in this format is called.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Buckets an octave: 2^3, so that one is 9% wide, as of Prometheus's own clients.
const SCHEMA: i32 = 3;

/// The native buckets' indices: above 2^-20 s (a microsecond) to 2^12 s (over an hour).
const BUCKETS: std::ops::RangeInclusive<i32> = (-20 << SCHEMA) + 1..=(12 << SCHEMA);

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// A counter, a gauge or a value of no known type: alike on the wire.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    deltas: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
enum Kind {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(enumeration = "Kind", tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

/// What native histograms are made of, by name and labels as the text has them.
pub type Counted = HashMap<(&'static str, String), Snapshot>;

/// Whether a scraper takes this format, and takes it as gladly as text (RFC 9110, section 12.5.1).
pub fn is_wanted(accept: &str) -> bool {
    let quality = |wanted: &[&str]| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let (media, parameters) = (parts.next()?, parts.collect::<Vec<_>>());
            let is_it =
                media == wanted[0] && wanted[1..].iter().all(|one| parameters.contains(one));
            let told = parameters.iter().find_map(|one| one.strip_prefix("q="));
            is_it.then(|| told.map_or(Some(1.0), |text| text.parse::<f64>().ok()))?
        });
        ranges.fold(0.0, f64::max)
    };
    let protobuf = quality(&[
        "application/vnd.google.protobuf",
        "proto=io.prometheus.client.MetricFamily",
        "encoding=delimited",
    ]);
    protobuf > 0.0 && protobuf >= quality(&["text/plain"])
}

/// A text in Prometheus's format as delimited messages.
pub fn render(text: &str, counted: &Counted) -> Vec<u8> {
    let (mut bytes, mut family) = (Vec::new(), Family::default());
    let mut end = |family: &Family| {
        if !family.metrics.is_empty() {
            let room = family.encode_length_delimited(&mut bytes);
            room.expect("a vector grows as needed");
        }
    };
    for line in text.lines() {
        if let Some((name, help)) = described(line, "# HELP ") {
            end(&family);
            family = Family {
                name: name.into(),
                help: help.into(),
                ..Family::default()
            };
        } else if let Some((name, kind)) = described(line, "# TYPE ") {
            if family.name != name {
                end(&family);
                family = Family {
                    name: name.into(),
                    ..Family::default()
                };
            }
            family.set_kind(match kind {
                "counter" => Kind::Counter,
                "histogram" => Kind::Histogram,
                // Our quantiles have no sum and no count, as a summary here would have to.
                _ => Kind::Gauge,
            });
        } else if let Some(sample) = Sample::read(line) {
            family.take(&sample, counted);
        }
    }
    end(&family);
    bytes
}

fn described<'a>(line: &'a str, what: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(what)?.split_once(' ')
}

/// A line of the text.
struct Sample<'a> {
    name: &'a str,
    /// Without the braces.
    labels: &'a str,
    value: &'a str,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}')?;
        Some(Self {
            name,
            labels,
            value,
        })
    }

    fn number(&self) -> f64 {
        self.value.parse().expect("the text holds numbers")
    }

    fn count(&self) -> u64 {
        self.value
            .parse()
            .expect("the text counts in whole numbers")
    }
}

impl Family {
    fn take(&mut self, sample: &Sample<'_>, counted: &Counted) {
        let value = || {
            Some(Value {
                value: sample.number(),
            })
        };
        let mut metric = Metric {
            labels: labels(sample.labels),
            ..Metric::default()
        };
        match self.kind() {
            Kind::Counter => metric.counter = value(),
            Kind::Gauge => metric.gauge = value(),
            Kind::Histogram => return self.part(sample, metric, counted),
        }
        self.metrics.push(metric);
    }

    /// A line of a histogram: buckets first, then sum and count.
    fn part(&mut self, sample: &Sample<'_>, mut metric: Metric, counted: &Counted) {
        let bound = metric.labels.pop_if(|last| last.name == "le");
        if self
            .metrics
            .last()
            .is_none_or(|last| last.labels != metric.labels)
        {
            let snapshot = counted
                .iter()
                .find(|((name, labels), _)| *name == self.name && is_of(sample.labels, labels));
            metric.histogram = Some(snapshot.map_or_else(Histogram::default, |one| native(one.1)));
            self.metrics.push(metric);
        }
        let last = self
            .metrics
            .last_mut()
            .and_then(|one| one.histogram.as_mut());
        let histogram = last.expect("one was pushed");
        match bound {
            Some(bound) => histogram.buckets.push(Bucket {
                cumulative_count: sample.count(),
                upper_bound: bound.value.parse().expect("bounds are numbers"),
            }),
            None if sample.name.ends_with("_sum") => histogram.sum = sample.number(),
            None => histogram.count = sample.count(),
        }
    }
}

/// Whether a bucket's labels are these and its bound.
fn is_of(bucket: &str, labels: &str) -> bool {
    let rest = bucket.strip_prefix(labels);
    rest.is_some_and(|rest| rest.trim_start_matches(',').starts_with("le=\""))
}

/// `name="value",…`, values escaped.
fn labels(text: &str) -> Vec<Label> {
    let (mut labels, mut rest) = (Vec::new(), text);
    while let Some((name, value)) = rest.split_once("=\"") {
        let mut label = Label {
            name: name.trim_start_matches(',').into(),
            ..Label::default()
        };
        let mut characters = value.char_indices();
        rest = "";
        while let Some((at, one)) = characters.next() {
            match one {
                '"' => {
                    rest = &value[at + 1..];
                    break;
                }
                '\\' => label
                    .value
                    .extend(characters.next().map(|(_, escaped)| match escaped {
                        'n' => '\n',
                        other => other,
                    })),
                other => label.value.push(other),
            }
        }
        labels.push(label);
    }
    labels
}

/// Spans of buckets that are not empty, each count as its difference to the one before.
fn native(snapshot: &Snapshot) -> Histogram {
    let bound = |index: i32| 2f64.powf(f64::from(index) / f64::from(1 << SCHEMA));
    let zero_threshold = bound(BUCKETS.start() - 1);
    let limits: Vec<_> = (BUCKETS.start() - 1..=*BUCKETS.end())
        .map(|index| Duration::from_secs_f64(bound(index)))
        .collect();
    let up_to = snapshot.counts_to(&limits);
    let mut histogram = Histogram {
        schema: SCHEMA,
        zero_threshold,
        zero_count: up_to[0],
        ..Histogram::default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Series;
    use proptest::prelude::*;

    fn families(mut bytes: &[u8]) -> Vec<Family> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            all.push(Family::decode_length_delimited(&mut bytes).unwrap());
        }
        all
    }

    fn of(millis: &[u64]) -> Snapshot {
        let series = Series::new(1);
        for value in millis {
            series.record(Duration::from_millis(*value));
        }
        series.cumulative()
    }

    #[test]
    fn every_series_of_the_text_is_there_with_its_labels_unescaped() {
        let text = "# HELP a_total What.\n# TYPE a_total counter\na_total{r=\"x\\\"},\\\\\",t=\"\\n\"} 3\n\
                    a_total 4\n\n# TYPE b gauge\nb{q=\"1\"} NaN\n\
                    # HELP h Times.\n# TYPE h histogram\n\
                    h_bucket{r=\"x\",le=\"0.5\"} 1\nh_bucket{r=\"x\",le=\"+Inf\"} 2\nh_sum{r=\"x\"} 1.5\nh_count{r=\"x\"} 2\n\
                    h_bucket{r=\"y\",le=\"0.5\"} 0\nh_bucket{r=\"y\",le=\"+Inf\"} 0\nh_sum{r=\"y\"} 0\nh_count{r=\"y\"} 0\n";
        let counted = Counted::from([(("h", "r=\"x\"".to_owned()), of(&[250, 1_250]))]);
        let all = families(&render(text, &counted));
        let names: Vec<_> = all
            .iter()
            .map(|one| (&*one.name, one.kind(), one.metrics.len()))
            .collect();
        let expected = [
            ("a_total", Kind::Counter, 2),
            ("b", Kind::Gauge, 1),
            ("h", Kind::Histogram, 2),
        ];
        assert_eq!(names, expected);
        let first = &all[0].metrics[0];
        assert_eq!(
            (&*all[0].help, first.counter.unwrap().value),
            ("What.", 3.0)
        );
        assert_eq!(
            (&*first.labels[0].value, &*first.labels[1].value),
            ("x\"},\\", "\n")
        );
        assert!(all[1].metrics[0].gauge.unwrap().value.is_nan());
        let x = all[2].metrics[0].histogram.as_ref().unwrap();
        assert_eq!(
            (x.count, x.sum, x.buckets.len(), x.deltas.len()),
            (2, 1.5, 2, 2)
        );
        assert!(x.buckets[1].upper_bound.is_infinite() && x.buckets[1].cumulative_count == 2);
        let y = all[2].metrics[1].histogram.as_ref().unwrap();
        assert!(y.deltas.is_empty() && y.count == 0);
    }

    proptest! {
        #[test]
        fn a_native_histogram_counts_each_sample_within_its_bucket(
            values in prop::collection::vec(0..3_600_000u64, 1..200)
        ) {
            let histogram = native(&of(&values));
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

    #[test]
    fn it_is_served_to_those_who_would_rather_have_it_than_text() {
        const THIS: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, wanted) in [
            (
                format!("{THIS};q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"),
                true,
            ),
            (format!("text/plain;q=0.5, {THIS};q=0.4"), false),
            (THIS.to_owned(), true),
            (format!("{THIS};q=0"), false),
            (
                "application/vnd.google.protobuf;proto=other;encoding=delimited".to_owned(),
                false,
            ),
            ("*/*".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_wanted(&accept), wanted, "{accept}");
        }
    }
}
