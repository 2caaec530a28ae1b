//! Prometheus histograms and quantile gauges, rendered from the series at a scrape.
//!
//! The exporter keeps counters and gauges; histograms have one source, the HDR series, so that a
//! bucket and a quantile never disagree.

use std::fmt::Write as _;
use std::time::Duration;

use super::protobuf::{Counted, series};
use crate::latency::{Snapshot, Window};
use crate::meter::{Meter, Metric, Tracked, escaped};

struct Family {
    metric: Metric,
    name: &'static str,
    help: &'static str,
    /// Upper bounds in microseconds.
    bounds: &'static [u64],
}

/// From 1 ms, as a cache answers, to 10 min: tops below that make the p99 of a model meaningless.
const CALL: &[u64] = &[
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    15_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
];
/// Jobs and callbacks: up to their longest deadlines.
const LATER: &[u64] = &[
    10_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
    900_000_000,
    1_800_000_000,
    3_600_000_000,
    7_200_000_000,
    21_600_000_000,
    86_400_000_000,
    259_200_000_000,
];
const GAP: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];
const OWN: &[u64] = &[
    10, 25, 50, 100, 200, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000,
];

const FAMILIES: &[Family] = &[
    Family {
        metric: Metric::RequestDuration,
        name: "shunt_request_duration_seconds",
        help: "Calls as their callers saw them.",
        bounds: CALL,
    },
    Family {
        metric: Metric::FirstToken,
        name: "shunt_first_token_seconds",
        help: "Streamed attempts to their first token.",
        bounds: CALL,
    },
    Family {
        metric: Metric::TokenGap,
        name: "shunt_token_gap_seconds",
        help: "Time between two tokens of a stream.",
        bounds: GAP,
    },
    Family {
        metric: Metric::ProviderDuration,
        name: "shunt_provider_duration_seconds",
        help: "Attempts to their last byte.",
        bounds: CALL,
    },
    Family {
        metric: Metric::Overhead,
        name: "shunt_overhead_seconds",
        help: "The gateway's own part of a call: without provider, upload and job store.",
        bounds: OWN,
    },
    Family {
        metric: Metric::JobDuration,
        name: "shunt_job_duration_seconds",
        help: "Jobs from their call to their end.",
        bounds: LATER,
    },
    Family {
        metric: Metric::JobQueue,
        name: "shunt_job_queue_seconds",
        help: "Jobs from their call to their first attempt, where that came out of the queue.",
        bounds: LATER,
    },
    Family {
        metric: Metric::CallbackLag,
        name: "shunt_callback_lag_seconds",
        help: "From a job's end to a delivery of its callback.",
        bounds: LATER,
    },
];

/// Quantiles of the windows.
const QUANTILES: [(f64, &str); 5] = [
    (0.5, "0.5"),
    (0.9, "0.9"),
    (0.95, "0.95"),
    (0.99, "0.99"),
    (0.999, "0.999"),
];

fn labels(tracked: &Tracked) -> String {
    let mut labels = String::new();
    if !tracked.route.is_empty() {
        let _ = write!(labels, "route=\"{}\"", escaped(&tracked.route));
    }
    if let Some(target) = &tracked.target {
        let _ = write!(labels, ",target=\"{}\"", escaped(target));
    }
    labels
}

/// Everything, in Prometheus's text format, and what its histograms were rendered from.
pub fn render(meter: &Meter) -> (String, Counted) {
    let mut text = meter.render();
    let mut all = Counted::default();
    let tracked = meter.tracked();
    for family in FAMILIES {
        let members: Vec<_> = tracked
            .iter()
            .filter(|one| one.metric == family.metric)
            .collect();
        if members.is_empty() {
            continue;
        }
        let name = family.name;
        let _ = writeln!(
            text,
            "# HELP {name} {}\n# TYPE {name} histogram",
            family.help
        );
        let bounds: Vec<Duration> = family
            .bounds
            .iter()
            .map(|bound| Duration::from_micros(*bound))
            .collect();
        for one in members {
            let (labels, counted) = (labels(one), one.cumulative());
            histogram(&mut text, name, &labels, &counted, &bounds);
            all.insert(series(name, &labels), counted);
        }
        text.push('\n');
    }
    windows(&mut text, &tracked);
    (text, all)
}

fn histogram(text: &mut String, name: &str, labels: &str, counted: &Snapshot, bounds: &[Duration]) {
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, count) in bounds.iter().zip(counted.counts_to(bounds)) {
        let le = bound.as_secs_f64();
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}");
    }
    let (count, sum) = (counted.count(), counted.sum_seconds());
    let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    let braces = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    };
    let _ = writeln!(
        text,
        "{name}_sum{braces} {sum}\n{name}_count{braces} {count}"
    );
}

/// Typed as a summary without sum and count: the `quantile` label on a gauge is what
/// `promtool check metrics` refuses, and to a query the series are the same.
fn windows(text: &mut String, tracked: &[std::sync::Arc<Tracked>]) {
    let name = "shunt_latency_seconds";
    let _ = writeln!(
        text,
        "# HELP {name} Quantiles of the rolling windows; absent where nothing was counted.\n\
         # TYPE {name} summary"
    );
    for one in tracked {
        let phase = match one.metric {
            Metric::RouteFirstToken => "first_token",
            Metric::RequestDuration => "total",
            _ => continue,
        };
        let (route, views) = (escaped(&one.route), one.views());
        for window in Window::ALL {
            let snapshot = views.window(window);
            if snapshot.count() == 0 {
                continue;
            }
            for (share, quantile) in QUANTILES {
                let value = snapshot.quantile(share).as_secs_f64();
                let window = window.as_str();
                let _ = writeln!(
                    text,
                    "{name}{{route=\"{route}\",phase=\"{phase}\",quantile=\"{quantile}\",\
                     window=\"{window}\"}} {value}"
                );
            }
        }
    }
}
