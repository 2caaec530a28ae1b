//! A running gateway takes a new configuration.
//!
//! Promises: all of it or nothing, and each try is counted. What is known of a target and what runs there
//! is not forgotten.

use std::sync::Arc;

use anyhow::{Result, anyhow};

use super::build::{cold_routes, live, reloads, state};
use super::{Server, restart};
use crate::config::Config;

impl Server {
    /// Takes a new configuration that is read now; one that cannot be read counts as a failed reload, too.
    ///
    /// # Errors
    /// What is wrong with it; the old one stays in force.
    pub fn reload_from(&self, read: impl FnOnce() -> Result<Config>) -> Result<()> {
        let read = read().inspect_err(|_| reloads(&self.meter, "failed").increment(1));
        self.reload(&read?)
    }

    /// Takes a new configuration for routes, providers, bounds and certificates; addresses, store,
    /// callbacks and the access log stay as they are.
    ///
    /// # Errors
    /// What is wrong with it; the old one stays in force.
    pub fn reload(&self, config: &Config) -> Result<()> {
        let before = self.gateway.state.load_full();
        let built = match restart::opens(&self.started.config, config) {
            Some(why) => Err(anyhow!(why)),
            None => state(config, &self.ground, Some(&before.table), &self.meter),
        };
        let built = built.and_then(|built| Ok((built, self.secured.prepare(config)?)));
        let result = if built.is_ok() { "ok" } else { "failed" };
        reloads(&self.meter, result).increment(1);
        let (mut built, renewed) = built?;
        self.secured.take(renewed);
        if let (Some(now), Some(before)) = (&mut built.gate, &before.gate) {
            now.keys.go_on_from(&before.keys);
        }
        let routes = cold_routes(&built.table, &self.routes.load(), &self.meter);
        self.routes.store(Arc::new(routes));
        self.store.share_out(built.turns());
        self.meter.keep(live(&built.table));
        built.table.begins(&self.meter);
        let built = Arc::new(built);
        self.gateway.state.store(built.clone());
        before.table.ends(&built.table);
        let waits = restart::waits(&self.started, config);
        if !waits.is_empty() {
            tracing::warn!(
                "changed, and as it was until the gateway is started anew: {}",
                waits.join(", ")
            );
        }
        Ok(())
    }
}
