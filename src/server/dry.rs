//! A configuration as a gateway would have it that takes no calls.

use std::sync::Arc;

use anyhow::{Result, anyhow};

use super::build::state;
use crate::cold::callback::AddressGuard;
use crate::cold::door::Door;
use crate::config::Config;
use crate::hot::State;
use crate::meter::Meter;
use crate::tasks::Tasks;
use crate::upstream::connect::Transport;
use crate::upstream::provider::Ground;
use crate::upstream::tls::Roots;

/// The routes of a configuration, and the door that judges addresses of callbacks. Reads no secret
/// and no certificate of its own, opens no socket.
///
/// # Errors
/// A sentence: a route cannot be built.
pub fn dry(config: &Config) -> Result<(Arc<State>, Door)> {
    let mut config = config.clone();
    for provider in config.providers.values_mut() {
        (provider.api_key, provider.ca, provider.client_cert) = (None, None, None);
    }
    config.auth.keys = None;
    let ground = Ground {
        roots: Roots::of_the_system(),
        names: None,
        transport: Transport::Sockets,
        tasks: Tasks::new(),
        pools: 1,
    };
    let state = state(&config, &ground, None, &Meter::new(1))?;
    let callbacks = &config.callbacks;
    let signs = callbacks.secret.is_some() || callbacks.signing_key.is_some();
    let guard = AddressGuard::new(&callbacks.allow).map_err(|why| anyhow!(why))?;
    let (door, _) = Door::new(signs.then(|| Arc::new(guard)));
    Ok((Arc::new(state), door))
}
