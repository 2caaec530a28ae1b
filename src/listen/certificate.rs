//! A listener's certificate, and how it is replaced under open connections.
//!
//! Promises: TLS 1.2 and 1.3 and no early data; a handshake meets the old certificate or the new
//! one whole; files that cannot be used change nothing; open connections go on with what they
//! began with, and tickets do not outlive their certificate. No worker reads a file or waits.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use metrics::{Counter, Gauge};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::validity::Validity;
use crate::config::ListenTls;
use crate::meter::Meter;

/// How often the files are looked at.
pub const LOOK: Duration = Duration::from_secs(10);

/// Longest TLS handshake, where the listener awaits a first head for longer.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A listener's certificate.
pub struct Certificate {
    listener: &'static str,
    alpn: &'static [&'static [u8]],
    current: ArcSwap<ServerConfig>,
    /// Touched by reloads only.
    held: Mutex<Held>,
    ok: Counter,
    failed: Counter,
    refused: Counter,
    expiry: Gauge,
}

struct Held {
    settings: ListenTls,
    /// What was read last, usable or not: the same is not tried again.
    tried: Tried,
    /// But if only the time was not right for it.
    untimely: bool,
    /// What is in force.
    digest: [u8; 32],
}

/// The digest of the files, or why they cannot be read.
type Tried = Result<[u8; 32], String>;

/// What the files hold.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// A certificate that can be put in force.
pub struct Ready {
    settings: ListenTls,
    digest: [u8; 32],
    config: ServerConfig,
    validity: Validity,
}

impl Certificate {
    /// Reads a listener's certificate. `listener` names it in metrics and in what is said of it.
    ///
    /// # Errors
    /// A sentence: a file cannot be read or used, or the key does not fit.
    pub fn new(
        listener: &'static str,
        settings: &ListenTls,
        alpn: &'static [&'static [u8]],
        meter: &Meter,
    ) -> Result<Self, String> {
        let files = Files::read(settings)?;
        let ready = files.ready(settings, alpn)?;
        // An old certificate is better than no gateway: its callers say what they think of it.
        if let Err(why) = ready.validity.holds() {
            tracing::warn!("the {listener} listener's certificate {why}");
        }
        let labels = [("listener", listener)];
        let count = |result| {
            let counter = meter.counter(
                "shunt_tls_reloads_total",
                &[("listener", listener), ("result", result)],
            );
            counter.increment(0);
            counter
        };
        let expiry = meter.gauge("shunt_tls_certificate_expiry_timestamp_seconds", &labels);
        expiry.set(ready.validity.until as f64);
        let refused = meter.counter("shunt_tls_handshakes_failed_total", &labels);
        refused.increment(0);
        Ok(Self {
            listener,
            alpn,
            held: Mutex::new(Held {
                settings: ready.settings,
                tried: Ok(ready.digest),
                untimely: false,
                digest: ready.digest,
            }),
            current: ArcSwap::from_pointee(ready.config),
            ok: count("ok"),
            failed: count("failed"),
            refused,
            expiry,
        })
    }

    /// Whether a listener could begin with these files.
    ///
    /// # Errors
    /// As of [`Certificate::new`].
    pub fn try_files(settings: &ListenTls) -> Result<(), String> {
        let ready = Files::read(settings)?.ready(settings, &[]);
        ready.map(|_| ())
    }

    /// A caller's connection after its handshake; none where there was none in time.
    pub async fn shake(&self, stream: TcpStream, limit: Duration) -> Option<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let shaken = tokio::time::timeout(HANDSHAKE.min(limit), acceptor.accept(stream)).await;
        if let Ok(Ok(stream)) = shaken {
            return Some(stream);
        }
        self.refused.increment(1);
        None
    }

    /// Reads what a new configuration names; nothing changes yet.
    ///
    /// # Errors
    /// A sentence, and the failure is counted.
    pub fn prepare(&self, settings: &ListenTls) -> Result<Ready, String> {
        let read = Files::read(settings).and_then(|files| files.ready(settings, self.alpn));
        let now = Timestamp::now().as_second();
        let read = read.and_then(|ready| {
            // What is in force anyway holds no reload up, be it over or not.
            if ready.digest != self.held().digest {
                ready.is_timely(now)?;
            }
            Ok(ready)
        });
        read.map_err(|why| {
            self.failed.increment(1);
            format!("listen: the {} certificate: {why}", self.listener)
        })
    }

    /// Puts a certificate in force for new connections.
    pub fn take(&self, ready: Ready) {
        self.put(&mut self.held(), ready);
    }

    fn put(&self, held: &mut Held, ready: Ready) {
        held.settings = ready.settings;
        held.tried = Ok(ready.digest);
        held.untimely = false;
        // The same again would only make tickets worthless.
        if held.digest == ready.digest {
            return;
        }
        held.digest = ready.digest;
        self.expiry.set(ready.validity.until as f64);
        self.current.store(Arc::new(ready.config));
        self.ok.increment(1);
        let listener = self.listener;
        tracing::info!("the {listener} listener has a new certificate");
    }

    /// Looks whether the files changed, and takes them if they can be used. Reads files.
    pub fn look(&self) {
        self.look_at(Timestamp::now().as_second());
    }

    fn look_at(&self, now: i64) {
        let mut held = self.held();
        let files = Files::read(&held.settings);
        let found: Tried = files.as_ref().map(Files::digest).map_err(Clone::clone);
        let again = found == held.tried;
        if again && !held.untimely {
            return;
        }
        held.tried = found;
        let ready = files.and_then(|files| files.ready(&held.settings, self.alpn));
        let ready = ready.map(|ready| (ready.is_timely(now), ready));
        held.untimely = matches!(ready, Ok((Err(_), _)));
        match ready.and_then(|(holds, ready)| holds.map(|()| ready)) {
            Ok(ready) => self.put(&mut held, ready),
            Err(_) if again => {}
            Err(why) => {
                self.failed.increment(1);
                let listener = self.listener;
                tracing::error!("the {listener} listener keeps its certificate: {why}");
            }
        }
    }

    /// Looks each such time, for ever.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = self.clone();
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ready {
    /// Whether it is valid: what cannot be used yet, or no more, replaces nothing.
    fn is_timely(&self, now: i64) -> Result<(), String> {
        let path = self.settings.cert.display();
        let holds = self.validity.holds_at(now);
        holds.map_err(|why| format!("{path} {why}"))
    }
}

impl Files {
    fn read(settings: &ListenTls) -> Result<Self, String> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| told(path, &error));
        Ok(Self {
            cert: read(&settings.cert)?,
            key: read(&settings.key)?,
            client_ca: settings.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut all = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()] {
            // Lengths keep the parts apart.
            all.update(
                part.map_or(u64::MAX, |part| part.len() as u64)
                    .to_be_bytes(),
            );
            all.update(part.map_or(&[][..], Vec::as_slice));
        }
        all.finalize().into()
    }

    fn ready(&self, settings: &ListenTls, alpn: &[&[u8]]) -> Result<Ready, String> {
        let chain = certificates(&settings.cert, &self.cert)?;
        let unread = || told(&settings.cert, &"its validity cannot be read");
        let validity = Validity::of(&chain[0]).ok_or_else(unread)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|error| told(&settings.key, &error))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match (&settings.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let mut roots = rustls::RootCertStore::empty();
                for root in certificates(path, pem)? {
                    roots.add(root).map_err(|error| told(path, &error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build().map_err(|error| told(path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| told(&settings.key, &error))?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        resume(&mut config, settings.client_ca.is_some())?;
        Ok(Ready {
            settings: settings.clone(),
            digest: self.digest(),
            config,
            validity,
        })
    }
}

/// Sessions are resumed by tickets, for which a server keeps nothing. Not where callers show a
/// certificate: each of their connections shows it.
fn resume(config: &mut ServerConfig, mutual: bool) -> Result<(), String> {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if mutual {
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = ring::Ticketer::new().map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| told(path, &error))?;
    if all.is_empty() {
        return Err(told(path, &"holds no certificate; it must be a PEM file"));
    }
    Ok(all)
}

fn told(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Writes a certificate that is valid between these years.
    fn write(folder: &TempDir, from: i32, until: i32) -> ListenTls {
        let mut asked = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
        asked.not_before = rcgen::date_time_ymd(from, 1, 1);
        asked.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let settings = ListenTls {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
            client_ca: None,
        };
        std::fs::write(&settings.cert, asked.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&settings.key, key.serialize_pem()).unwrap();
        settings
    }

    fn counted(meter: &Meter, result: &str) -> bool {
        let line = format!("shunt_tls_reloads_total{{listener=\"public\",result=\"{result}\"}} 1");
        meter.render().lines().any(|one| one == line)
    }

    #[test]
    fn an_expired_certificate_in_force_holds_no_reload_up() {
        let (folder, meter) = (tempfile::tempdir().unwrap(), Meter::new(1));
        let settings = write(&folder, 2001, 2002);
        let certificate = Certificate::new("public", &settings, &[], &meter).unwrap();
        assert!(certificate.prepare(&settings).is_ok());
        // Another one that has expired replaces nothing.
        let settings = write(&folder, 2001, 2003);
        let why = certificate.prepare(&settings).err().unwrap();
        assert!(why.ends_with("has expired"), "{why}");
    }

    #[test]
    fn a_certificate_that_comes_before_its_time_is_taken_when_it_is_valid() {
        let (folder, meter) = (tempfile::tempdir().unwrap(), Meter::new(1));
        let settings = write(&folder, 2001, 2098);
        let certificate = Certificate::new("public", &settings, &[], &meter).unwrap();
        write(&folder, 2090, 2099);
        let year = |year: i64| (year - 1970) * 31_556_952;
        certificate.look_at(year(2080));
        certificate.look_at(year(2081));
        assert!(counted(&meter, "failed"), "{}", meter.render());
        certificate.look_at(year(2091));
        assert!(counted(&meter, "ok"), "{}", meter.render());
    }
}
