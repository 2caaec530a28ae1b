//! `shunt_target_healthy`: one series for a target, whichever routes send to it.
//!
//! Promises: 0 as long as any route leaves the target alone. Routes judge by their own calls, and a
//! provider's built-in route, which mostly has none, must not hide what another sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use metrics::Gauge;

/// A target, as all routes see it.
pub(super) struct Shared {
    pub target: Arc<str>,
    gauge: Gauge,
    /// Routes that leave it alone.
    left_alone: AtomicUsize,
}

impl Shared {
    pub fn new(target: &str, gauge: Gauge) -> Self {
        gauge.set(1.0);
        Self {
            target: target.into(),
            gauge,
            left_alone: AtomicUsize::new(0),
        }
    }
}

/// A target, as one route sees it.
pub struct Healthy {
    shared: Arc<Shared>,
    open: AtomicBool,
}

impl Healthy {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let open = AtomicBool::new(true);
        Self { shared, open }
    }

    /// Whether the route sends calls to it; meant for the clock's thread.
    pub fn set(&self, open: bool) {
        let left_alone = &self.shared.left_alone;
        match (self.open.swap(open, Ordering::Relaxed), open) {
            (true, false) => left_alone.fetch_add(1, Ordering::Relaxed),
            (false, true) => left_alone.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        let open = left_alone.load(Ordering::Relaxed) == 0;
        self.shared.gauge.set(if open { 1.0 } else { 0.0 });
    }
}

impl Drop for Healthy {
    fn drop(&mut self) {
        // A reload replaces the routes.
        self.set(true);
    }
}

#[cfg(test)]
mod tests {
    use crate::meter::Meter;

    #[test]
    fn a_target_is_healthy_when_every_route_sends_to_it() {
        let meter = Meter::new(1);
        let (busy, idle) = (meter.healthy("p"), meter.healthy("p"));
        let told = || {
            let text = meter.render();
            let line = text
                .lines()
                .find(|line| line.starts_with("shunt_target_healthy{"));
            line.expect("it is told").ends_with(" 1")
        };
        assert!(told());
        busy.set(false);
        idle.set(true);
        assert!(!told());
        busy.set(false);
        drop(busy);
        assert!(told());
    }
}
