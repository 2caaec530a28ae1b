//! A scrape in Prometheus's protobuf format, with native histograms beside the classic ones.
//!
//! Promises: the series of the text format, since they are read from that text; a native histogram
//! counts the samples of its classic one. Never changes what a text scrape says.
//! Source: `metrics.proto` of `prometheus/client_model`.

use std::collections::HashMap;

use prost::Message as _;

use super::native::{Bucket, Histogram};
use crate::latency::Snapshot;

/// What a scrape in this format is called.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

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

/// What native histograms are made of, by their series.
pub type Counted = HashMap<String, Snapshot>;

/// A series' name and labels as the text has them.
pub fn series(name: &str, labels: &str) -> String {
    format!("{name}{{{labels}}}")
}

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
            let labels = sample.labels.rsplit_once("le=\"");
            let labels = labels.map_or("", |(others, _)| others.trim_end_matches(','));
            let snapshot = counted.get(&series(&self.name, labels));
            metric.histogram = Some(snapshot.map_or_else(Histogram::default, Histogram::of));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn families(mut bytes: &[u8]) -> Vec<Family> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            all.push(Family::decode_length_delimited(&mut bytes).unwrap());
        }
        all
    }

    #[test]
    fn every_series_of_the_text_is_there_with_its_labels_unescaped() {
        let text = "# HELP a_total What.\n# TYPE a_total counter\na_total{r=\"x\\\"},\\\\\",t=\"\\n\"} 3\n\
                    a_total 4\n\n# TYPE b gauge\nb{q=\"1\"} NaN\n\
                    # HELP h Times.\n# TYPE h histogram\n\
                    h_bucket{r=\"x\",le=\"0.5\"} 1\nh_bucket{r=\"x\",le=\"+Inf\"} 2\nh_sum{r=\"x\"} 1.5\nh_count{r=\"x\"} 2\n\
                    h_bucket{r=\"y\",le=\"0.5\"} 0\nh_bucket{r=\"y\",le=\"+Inf\"} 0\nh_sum{r=\"y\"} 0\nh_count{r=\"y\"} 0\n";
        let counted = Counted::from([(series("h", "r=\"x\""), Snapshot::of(&[250, 1_250]))]);
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
