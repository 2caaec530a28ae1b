//! One route in full: its percentile curves and its last hour.

use super::gather::seconds;
use super::{Curve, Detail, HeatColumn, Heatmap, Phases, Windows};
use crate::cold::job::UnixMillis;
use crate::hot::Route;
use crate::latency::{COLUMN, curve, rows};
use crate::meter::Tracked;

/// The route as it stands.
pub fn of(route: &Route, with_heat: bool) -> Detail {
    Detail {
        route: route.name.to_string(),
        curves: Phases {
            first_token: curves(&route.meter.first_token),
            total: curves(&route.meter.total),
        },
        heat: with_heat.then(|| heat(route)),
    }
}

fn curves(tracked: &Tracked) -> Windows<Curve> {
    let views = tracked.views();
    Windows::each(|window| {
        let points = curve(views.window(window)).into_iter();
        let points = points.map(|(share, value)| (share, value.as_secs_f64()));
        points.collect()
    })
}

/// The last hour of both phases.
pub fn heat(route: &Route) -> Phases<Heatmap> {
    Phases {
        first_token: heatmap(&route.meter.first_token),
        total: heatmap(&route.meter.total),
    }
}

fn heatmap(tracked: &Tracked) -> Heatmap {
    let all = tracked.heat().expect("it is kept of what callers see");
    let columns = all.columns.iter().map(|column| HeatColumn {
        first: column.first,
        counts: column.counts.to_vec(),
    });
    Heatmap {
        column: COLUMN.as_secs_f64(),
        began: (seconds(UnixMillis::now()) - all.filled.as_secs_f64()).round(),
        rows: rows().map(|row| row.as_secs_f64()).to_vec(),
        columns: columns.collect(),
    }
}
