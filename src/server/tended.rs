//! What is done each second while a gateway runs: windows move, connections are tended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::hot::Gateway;
use crate::meter::Meter;

/// How often windows move and connections are tended.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Moves the windows on each such time, and what is learned from them.
pub(crate) async fn keep_time(meter: Arc<Meter>, gateway: Arc<Gateway>, every: Duration) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        meter.tick(began.elapsed());
        let now = Instant::now();
        gateway.shares.sweep(now);
        gateway.scopes.sweep(now);
        let state = gateway.state.load();
        for route in state.table.routes() {
            route.learn();
        }
        for provider in state.table.providers() {
            provider.tick();
        }
    }
}

/// Tends a worker's connections to providers each second.
pub(crate) async fn keep_warm(index: usize, gateway: Arc<Gateway>) {
    let mut second = tokio::time::interval(SECOND);
    loop {
        second.tick().await;
        let state = gateway.state.load_full();
        let providers = state.table.providers().iter();
        providers.for_each(|one| one.pool(index).tend());
    }
}
