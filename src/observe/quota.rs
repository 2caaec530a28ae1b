//! What is left of providers' rate limits, as metrics and as JSON.

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::meter::Meter;
use crate::upstream::provider::Provider;

/// Sets the gauges of a provider.
pub fn show(provider: &Provider, meter: &Meter) {
    let now = Instant::now();
    for left in provider.quota.left(now) {
        let labels = [("provider", &*provider.name), ("kind", left.kind)];
        let ratio = left.remaining / left.limit as f64;
        meter
            .gauge("shunt_quota_remaining_ratio", &labels)
            .set(ratio);
    }
    let rate = provider.quota.job_rate(now).unwrap_or(f64::NAN);
    let labels = [("provider", &*provider.name)];
    meter.gauge("shunt_quota_job_rate", &labels).set(rate);
}

/// The same for the dashboard: each kind that the provider tells, the learned rate, and why it
/// would get no job now.
pub fn figures(provider: &Provider) -> Value {
    let now = Instant::now();
    let mut all = Map::new();
    for left in provider.quota.left(now) {
        let figures = json!({"limit": left.limit, "remaining": left.remaining.floor()});
        all.insert(left.kind.to_owned(), figures);
    }
    all.insert("job_rate".into(), json!(provider.quota.job_rate(now)));
    let held = provider.quota.room(now).err();
    let held =
        held.map(|held| json!({"reason": held.why.as_str(), "wait": held.wait.as_secs_f64()}));
    all.insert("held".into(), json!(held));
    Value::Object(all)
}
