//! What a configuration becomes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};

use crate::auth::Keys;
use crate::cold::callback::Signer;
use crate::cold::runner::ColdRoute;
use crate::cold::seal::Sealer;
use crate::cold::store::SharedStore;
use crate::cold::store::postgres::PostgresStore;
use crate::cold::store::sealed::Sealed;
use crate::cold::store::sqlite::{self, SqliteStore};
use crate::config::{Callbacks, Config, PostgresAddress, Secret, Secrets, is_postgres};
use crate::hot::{Gate, State, Table};
use crate::meter::{Live, Meter, Refused};
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
            .find(|one| &*one.name == name && one.is_for(settings));
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
    before: Option<&Table>,
    meter: &Arc<Meter>,
) -> Result<State> {
    let known = before.map_or(&[][..], Table::providers);
    let providers = providers(config, ground, known)?;
    Ok(State {
        table: Table::new(config, &providers, before, meter).map_err(|why| anyhow!(why))?,
        limits: config.limits.clone(),
        refused: Refused::new(meter),
        gate: gate(config, meter)?,
        margin: config.cold.margin.get(),
    })
}

/// What is measured while these routes are in force.
pub(super) fn live(table: &Table) -> Live {
    let mut live = Live::default();
    for route in table.routes() {
        let targets = route.targets.all();
        let labels = targets.iter().map(|target| target.label.as_str());
        live.add(&route.name, labels);
        for target in targets.iter().filter(|target| target.permits.is_some()) {
            live.limits(&route.name, &target.label);
        }
    }
    live
}

/// Configurations that were taken or refused.
pub(super) fn reloads(meter: &Meter, result: &str) -> metrics::Counter {
    meter.counter("shunt_config_reloads_total", &[("result", result)])
}

fn gate(config: &Config, meter: &Meter) -> Result<Option<Gate>> {
    let Some(path) = &config.auth.keys else {
        return Ok(None);
    };
    let keys = Keys::read(path).map_err(|why| anyhow!("auth.keys: {why}"))?;
    tracing::info!(keys = keys.len(), "each call needs a key of the gateway's");
    Ok(Some(Gate::new(keys, meter)))
}

/// Routes as jobs see them; the jobs that run on those that were there `before` hold their places.
pub(crate) fn cold_routes(
    table: &Table,
    before: &HashMap<String, Arc<ColdRoute>>,
    meter: &Arc<Meter>,
) -> HashMap<String, Arc<ColdRoute>> {
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
        let cold = match before.get(&*route.name) {
            Some(before) => cold.going_on_from(before),
            None => cold,
        };
        (route.name.to_string(), Arc::new(cold))
    };
    table.routes().iter().map(route).collect()
}

/// The signer of callbacks; none where there is neither secret nor key.
pub(super) fn signer(callbacks: &Callbacks) -> Result<Option<Arc<Signer>>> {
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

/// Opens the store; what it runs, it runs as tasks of this owner.
pub(super) async fn store(config: &Config, tasks: &Tasks) -> Result<SharedStore> {
    let cold = &config.cold;
    let (limit, variable) = (cold.queue_limit, cold.seal_keys_env.as_deref());
    let why = |why: String| anyhow!("the keys that seal the store: {why}");
    if is_postgres(&cold.store) {
        let address =
            PostgresAddress::parse(&cold.store).map_err(|why| anyhow!("cold.store {why}"))?;
        // There is no file beside a database, and every gateway needs the same keys.
        let sealer = Sealer::from_environment(variable.unwrap_or(SEAL_KEYS)).map_err(why)?;
        let store = PostgresStore::open(&address, &cold.postgres, limit, tasks.clone()).await?;
        return Ok(Arc::new(Sealed::new(store, sealer, cold.seal)));
    }
    let path = Path::new(cold.store.strip_prefix("sqlite:").unwrap_or(&cold.store));
    let store = SqliteStore::open(path, limit)?;
    let file = sqlite::beside(path, ".key");
    let sealer = sealer(variable, &file).map_err(why)?;
    Ok(Arc::new(Sealed::new(store, sealer, cold.seal)))
}

/// The variable that holds the keys of a store that several gateways share, where none is named.
pub(super) const SEAL_KEYS: &str = "SHUNT_SEAL_KEYS";

/// The keys of the environment; those of the file open also what was sealed before there were any.
fn sealer(variable: Option<&str>, file: &Path) -> Result<Sealer, String> {
    let Some(variable) = variable else {
        return Sealer::from_file(file);
    };
    let sealer = Sealer::from_environment(variable)?;
    if file.exists() {
        return Ok(sealer.and_opens(Sealer::from_file(file)?));
    }
    Ok(sealer)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::config::parse;
    use crate::upstream::connect::Transport;
    use crate::upstream::tls::Roots;

    #[tokio::test(start_paused = true)]
    async fn a_reload_does_not_forget_what_runs_at_a_target() {
        let ground = Ground {
            roots: Roots::of_the_system(),
            names: None,
            transport: Transport::Sockets,
            tasks: Tasks::new(),
            pools: 1,
        };
        let meter = Meter::new(1);
        let text = |body: &str, weight: u32, key: &str| {
            format!(
                "[limits]\nbody = \"{body}\"\n[providers.a]\nbase_url = \"http://a.example\"\n\
                 concurrency = {{ mode = \"fixed\", limit = 1 }}\n{key}\n\
                 [[routes]]\nname = \"r\"\nmatch = {{ path = \"/v1/*\" }}\n\
                 targets = [{{ provider = \"a\", weight = {weight} }}]\n"
            )
        };
        let built = |text: String, before: Option<&State>| {
            let before = before.map(|before| &before.table);
            state(&parse(&text, "f").unwrap(), &ground, before, &meter).unwrap()
        };
        let first = |state: &State| state.table.routes()[0].targets.all()[0].clone();
        let before = built(text("1MiB", 1, ""), None);
        let now = Instant::now();
        let place = first(&before).permit(now);
        assert!(place.is_some());
        // The file changed elsewhere, or in the target's weight alone: it is as full as it was.
        for weight in [1, 2] {
            let after = built(text("2MiB", weight, ""), Some(&before));
            assert!(first(&after).permit(now).is_none(), "{weight}");
        }
        // Another provider is another place.
        let other = built(text("1MiB", 1, "protocol = \"http1\""), Some(&before));
        assert!(first(&other).permit(now).is_some());
    }
}
