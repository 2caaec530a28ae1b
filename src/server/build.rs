//! What a configuration becomes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use crate::cold::callback::Signer;
use crate::cold::runner::ColdRoute;
use crate::cold::seal::Sealer;
use crate::cold::store::SharedStore;
use crate::cold::store::postgres::PostgresStore;
use crate::cold::store::sqlite::SqliteStore;
use crate::config::{Config, PostgresAddress, Secret, Secrets, is_postgres};
use crate::hot::{State, Table};
use crate::meter::Meter;
use crate::tasks::Tasks;
use crate::upstream::provider::{Ground, Provider};

fn providers(
    config: &Config,
    ground: &Ground,
    before: &[Arc<Provider>],
) -> Result<BTreeMap<String, Arc<Provider>>> {
    let mut all = BTreeMap::new();
    for (name, settings) in &config.providers {
        // Unchanged providers keep their connections.
        let same = before
            .iter()
            .find(|one| &*one.name == name && one.settings == *settings);
        let provider = match same {
            Some(same) => same.clone(),
            None => Arc::new(Provider::new(name, settings, ground).map_err(|why| anyhow!(why))?),
        };
        all.insert(name.clone(), provider);
    }
    Ok(all)
}

pub(crate) fn state(
    config: &Config,
    ground: &Ground,
    before: &[Arc<Provider>],
    meter: &Arc<Meter>,
) -> Result<State> {
    let providers = providers(config, ground, before)?;
    Ok(State {
        table: Table::new(config, &providers, meter).map_err(|why| anyhow!(why))?,
        limits: config.limits.clone(),
        margin: config.cold.margin.get(),
    })
}

pub(crate) fn cold_routes(table: &Table, meter: &Arc<Meter>) -> HashMap<String, Arc<ColdRoute>> {
    let route = |route: &Arc<crate::hot::Route>| {
        let connect = route.budget.connect.get();
        let cold = ColdRoute::new(
            &route.name,
            route.targets.clone(),
            route.cold.clone(),
            connect,
            route.predictor.predictions().cloned(),
            meter,
        );
        (route.name.to_string(), Arc::new(cold))
    };
    table.routes().iter().map(route).collect()
}

/// The signer of callbacks; none where there is neither secret nor key.
pub(super) fn signer(config: &Config) -> Result<Option<Arc<Signer>>> {
    let callbacks = &config.callbacks;
    if callbacks.secret.is_none() && callbacks.signing_key.is_none() {
        return Ok(None);
    }
    let secrets = read("callbacks.secret", callbacks.secret.as_ref())?;
    let keys = read("callbacks.signing_key", callbacks.signing_key.as_ref())?;
    let signer = Signer::new(&secrets).map_err(|why| anyhow!("callbacks.secret: {why}"))?;
    let signer = signer
        .with_keys(&keys)
        .map_err(|why| anyhow!("callbacks.signing_key: {why}"))?;
    Ok(Some(Arc::new(signer)))
}

fn read(key: &str, sources: Option<&Secrets>) -> Result<Vec<Secret>> {
    let sources = sources.into_iter().flat_map(Secrets::all);
    sources
        .map(|source| source.read().map_err(|why| anyhow!("{key}: {why}")))
        .collect()
}

/// The variable that holds the key of credentials that several gateways share.
const SEAL_KEY: &str = "SHUNT_SEAL_KEY";

/// Opens the store; what it runs, it runs as tasks of this owner.
pub(super) async fn store(config: &Config, tasks: &Tasks) -> Result<SharedStore> {
    let cold = &config.cold;
    if is_postgres(&cold.store) {
        let address =
            PostgresAddress::parse(&cold.store).map_err(|why| anyhow!("cold.store {why}"))?;
        let key = std::env::var(SEAL_KEY).with_context(|| {
            format!(
                "{SEAL_KEY} is not set; every gateway on a PostgreSQL store needs the same key: 32 \
                 random bytes in Base64 (openssl rand -base64 32)"
            )
        })?;
        let sealer = Sealer::with_key(&key).map_err(|why| anyhow!("{SEAL_KEY} {why}"))?;
        let limit = cold.queue_limit;
        let store = PostgresStore::open(&address, &cold.postgres, limit, sealer, tasks.clone());
        return Ok(Arc::new(store.await?));
    }
    let path = cold.store.strip_prefix("sqlite:").unwrap_or(&cold.store);
    Ok(Arc::new(SqliteStore::open(
        Path::new(path),
        cold.queue_limit,
    )?))
}
