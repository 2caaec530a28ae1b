//! What is told of single calls: the access log's thread, and the task that tells of traces.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use tokio::runtime::Runtime;

use super::Owners;
use crate::config::Config;
use crate::journal::{Exporter, Journal, Log};
use crate::meter::Meter;
use crate::upstream::provider::Ground;

/// Begins to tell what is left in the journal.
pub(super) fn told(
    config: &Config,
    ground: &Ground,
    meter: &Meter,
    journal: Option<&Arc<Journal>>,
    control: &Runtime,
    owners: &Owners,
) -> Result<Option<Log>> {
    let Some(journal) = journal else {
        return Ok(None);
    };
    let exporter = Exporter::new(&config.traces, ground, meter).map_err(|why| anyhow!(why))?;
    if let Some(exporter) = exporter {
        let routes = &config.traces.content;
        if !routes.is_empty() {
            tracing::info!(
                ?routes,
                "prompts and answers of these routes are told with their spans"
            );
        }
        let _inside = control.enter();
        let telling = exporter.run(journal.clone(), owners.told.clone());
        owners.journal.spawn(telling);
    }
    Log::start(&config.access_log, journal, meter)
}
