//! A provider as calls meet it: where it is, what it speaks, its key and its connections.
//!
//! Promises: the configured key replaces the caller's credentials and appears nowhere else.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls_pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::accounts::Accounts;
use super::connect::{Dialer, Transport, bare};
use super::credentials::CREDENTIALS;
use super::names::Names;
use super::pool::{Bounds, Pool};
use super::quota::Quota;
use super::tls::Roots;
use crate::config::{self, Dialect, Protocol};
use crate::latency::RatioBucket;
use crate::tasks::Tasks;

/// What providers are made from, besides their configuration.
pub struct Ground {
    /// Trusted roots.
    pub roots: Roots,
    /// Names; `None`: only addresses.
    pub names: Option<Names>,
    /// What connections are made of.
    pub transport: Transport,
    /// Owner of connection tasks.
    pub tasks: Tasks,
    /// Pools per provider: one for each worker, and one for jobs.
    pub pools: usize,
}

/// A provider.
pub struct Provider {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The API it speaks.
    pub dialect: Dialect,
    /// What it was made from; a reload keeps the connections of providers that did not change.
    pub settings: config::Provider,
    /// What the files that it names held then.
    files: Option<[u8; 32]>,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    prefix: String,
    key: Option<(HeaderName, HeaderValue)>,
    pools: Box<[Arc<Pool>]>,
    /// Connections that can switch to another protocol.
    tunnels: Arc<Pool>,
    /// What further attempts after a failure are paid from, whatever their route.
    pub retries: RatioBucket,
    /// What is left of its rate limits.
    pub quota: Quota,
    /// Whose keys it is asked with.
    pub accounts: Accounts,
}

/// Retries per call: Finagle's 20% halved; a few are there from the start.
const RETRIES: f64 = 0.1;
const SAVED: u32 = 10;

/// Retries that a second adds, so that a quiet provider has some.
const RETRIES_A_SECOND: u32 = 1;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

impl Provider {
    /// A provider; opens no connection yet.
    ///
    /// # Errors
    /// A sentence: the address or a certificate file is wrong, or the key's source is empty.
    pub fn new(name: &str, settings: &config::Provider, ground: &Ground) -> Result<Self, String> {
        let told = |what: String| format!("providers.{name}: {what}");
        let base: Uri = settings
            .base_url
            .parse()
            .map_err(|error| told(format!("base_url: {error}")))?;
        let parts = base.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(told("base_url needs a scheme and a host".into()));
        };
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|error| told(format!("base_url: {error}")))?;
        let dials = |protocol| {
            let dialer = dialer(settings, protocol, &scheme, &authority, ground);
            dialer.map(Arc::new).map_err(told)
        };
        let dialer = dials(settings.protocol)?;
        let prefix = parts.path_and_query.as_ref().map_or("", PathAndQuery::path);
        let bounds = Bounds {
            warm: settings.warm_connections,
            idle: settings.idle_connections,
            idle_timeout: settings.idle_timeout.get(),
        };
        let pool = || Arc::new(Pool::new(dialer.clone(), ground.tasks.clone(), bounds));
        // Only HTTP/1.1 can switch (RFC 9110 7.8): where a connection would choose it does not offer more.
        let tunnels = match settings.protocol {
            Protocol::Auto if scheme == Scheme::HTTPS => dials(Protocol::Http1)?,
            _ => dialer.clone(),
        };
        let bounds = Bounds {
            warm: 0,
            idle: 1,
            ..bounds
        };
        let tunnels = Arc::new(Pool::new(tunnels, ground.tasks.clone(), bounds));
        Ok(Self {
            tunnels,
            files: digest(settings),
            name: name.into(),
            dialect: settings.dialect,
            settings: settings.clone(),
            prefix: prefix.trim_end_matches('/').to_owned(),
            key: key(settings).map_err(told)?,
            pools: (0..ground.pools).map(|_| pool()).collect(),
            retries: RatioBucket::new(RETRIES, SAVED).with_initial(SAVED),
            quota: Quota::new(&settings.quota),
            accounts: Accounts::default(),
            scheme,
            authority,
            host,
        })
    }

    /// Whether this is what such a configuration makes: with the same key and certificates in the
    /// files that it names, too. Reads those files.
    pub fn is_for(&self, settings: &config::Provider) -> bool {
        self.settings == *settings && self.files.is_some() && self.files == digest(settings)
    }

    /// Adds what time alone adds to the retry budget; meant for once a second.
    pub fn tick(&self) {
        // The last pool is the jobs', which no worker tends.
        if let Some(jobs) = self.pools.last() {
            jobs.tidy();
        }
        self.tunnels.tidy();
        for _ in 0..RETRIES_A_SECOND {
            self.retries.refund();
        }
    }

    /// The connections of one worker.
    pub fn pool(&self, worker: usize) -> &Arc<Pool> {
        &self.pools[worker.min(self.pools.len() - 1)]
    }

    /// Connections that can switch to another protocol.
    pub fn tunnels(&self) -> &Arc<Pool> {
        &self.tunnels
    }

    /// Its host and its port.
    pub fn server(&self) -> (&str, u16) {
        let otherwise = if self.scheme == Scheme::HTTPS {
            443
        } else {
            80
        };
        let port = self.authority.port_u16().unwrap_or(otherwise);
        (bare(self.authority.host()), port)
    }

    /// A path as this provider has it: with its own before it.
    pub fn path(&self, path: &PathAndQuery) -> Result<PathAndQuery, http::Error> {
        if self.prefix.is_empty() {
            return Ok(path.clone());
        }
        Ok(format!("{}{path}", self.prefix).parse()?)
    }

    /// The address of a path of this provider. `absolute` for HTTP/2, which needs scheme and host.
    pub fn uri(&self, path: PathAndQuery, absolute: bool) -> Result<Uri, http::Error> {
        if !absolute {
            return Ok(Uri::from(path));
        }
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }

    /// Whether it is asked with a key of the gateway's own.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// A call with these headers is sent there: with the gateway's key, or with its caller's.
    pub fn sees(&self, headers: &HeaderMap, now: Instant) {
        if !self.has_key() {
            self.accounts.saw(headers, now);
        }
    }

    /// Makes a caller's headers this provider's: its host, and its key if there is one.
    pub fn address(&self, headers: &mut HeaderMap) {
        headers.insert(HOST, self.host.clone());
        if let Some((name, value)) = &self.key {
            for name in &CREDENTIALS {
                headers.remove(name);
            }
            headers.insert(name, value.clone());
        }
    }
}

/// Of the files that a provider names; none where one of them cannot be read.
fn digest(settings: &config::Provider) -> Option<[u8; 32]> {
    let shown = settings.client_cert.as_ref();
    let key = settings.api_key.as_ref().and_then(|key| key.file.as_ref());
    let files = [
        settings.ca.as_ref(),
        shown.map(|shown| &shown.cert),
        shown.map(|shown| &shown.key),
        key,
    ];
    let mut all = Sha256::new();
    for file in files.into_iter().flatten() {
        all.update(Sha256::digest(std::fs::read(file).ok()?));
    }
    Some(all.finalize().into())
}

fn dialer(
    settings: &config::Provider,
    protocol: Protocol,
    scheme: &Scheme,
    authority: &Authority,
    ground: &Ground,
) -> Result<Dialer, String> {
    let secure = *scheme == Scheme::HTTPS;
    let host = authority.host().to_owned();
    let tls = if secure {
        let alpn: &[&[u8]] = match protocol {
            Protocol::Auto => &[b"h2", b"http/1.1"],
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
        };
        let config = {
            let (ca, shown) = (settings.ca.as_deref(), settings.client_cert.as_ref());
            ground.roots.client(ca, shown, alpn)?
        };
        let name = ServerName::try_from(bare(&host).to_owned())
            .map_err(|error| format!("base_url: {error}"))?;
        Some((TlsConnector::from(config), name))
    } else {
        None
    };
    let port = authority
        .port_u16()
        .unwrap_or(if secure { 443 } else { 80 });
    let names = ground.names.as_ref();
    let name = names.filter(|_| bare(&host).parse::<IpAddr>().is_err());
    let name = name.map(|names| names.of(&host));
    Ok(
        Dialer::new(host, port, tls, protocol, name, ground.tasks.clone())
            .over(ground.transport.clone()),
    )
}

fn key(settings: &config::Provider) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    let Some(source) = &settings.api_key else {
        return Ok(None);
    };
    let secret = source.read().map_err(|why| format!("api_key: {why}"))?;
    let (name, text) = match settings.dialect {
        Dialect::Anthropic => (X_API_KEY, secret.expose().to_owned()),
        Dialect::Openai | Dialect::Plain => (AUTHORIZATION, format!("Bearer {}", secret.expose())),
    };
    // The error of a header value would not name the secret either, but nothing is risked here.
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| "api_key: the secret holds characters that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_key_is_configured_none_of_the_caller_s_goes_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-ours\n").unwrap();
        let path = file.path().display();
        let text = format!(
            "[providers.a]\nbase_url = \"http://a.example\"\napi_key = {{ file = \"{path}\" }}\n\
             [providers.b]\nbase_url = \"http://b.example\"\n"
        );
        let config = config::parse(&text, "f").unwrap();
        let ground = Ground {
            roots: Roots::of_the_system(),
            names: None,
            transport: Transport::Sockets,
            tasks: Tasks::new(),
            pools: 1,
        };
        let sent = |name: &str| {
            let provider = Provider::new(name, &config.providers[name], &ground).unwrap();
            let mut headers = HeaderMap::new();
            for name in &CREDENTIALS {
                headers.insert(name, HeaderValue::from_static("theirs"));
            }
            provider.address(&mut headers);
            headers
        };
        let headers = sent("a");
        assert_eq!(headers[AUTHORIZATION], "Bearer sk-ours");
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert_eq!(sent("b").len(), 5);
    }
}
