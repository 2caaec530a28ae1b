//! The certificates of a gateway's listeners.

use std::sync::Arc;

use anyhow::{Result, anyhow};

use super::Server;
use crate::config::{Config, ListenTls};
use crate::listen::{Certificate, LOOK, Ready};
use crate::meter::Meter;
use crate::tasks::Tasks;

/// The certificates of both listeners, where they have any.
pub(super) struct Secured {
    pub public: Option<Arc<Certificate>>,
    pub admin: Option<Arc<Certificate>>,
}

/// What a reload puts in force.
pub(super) struct Renewed {
    public: Option<Ready>,
    admin: Option<Ready>,
}

impl Secured {
    /// Reads them; their files are looked at from now on, as tasks of this owner.
    pub fn new(config: &Config, meter: &Meter, tasks: &Tasks) -> Result<Self> {
        let listen = &config.listen;
        let read = |name, key, settings: Option<&ListenTls>, alpn| {
            let made = settings.map(|tls| Certificate::new(name, tls, alpn, meter));
            let made = made
                .transpose()
                .map_err(|why| anyhow!("listen.{key}: {why}"))?;
            anyhow::Ok(made.map(Arc::new))
        };
        let this = Self {
            public: read("public", "tls", listen.tls.as_ref(), &[b"h2", b"http/1.1"])?,
            admin: read(
                "admin",
                "admin_tls",
                listen.admin_tls.as_ref(),
                &[b"http/1.1"],
            )?,
        };
        for one in [&this.public, &this.admin].into_iter().flatten() {
            tasks.spawn(one.clone().watch(LOOK));
        }
        Ok(this)
    }

    /// Reads what a new configuration names; nothing changes yet.
    pub fn prepare(&self, config: &Config) -> Result<Renewed> {
        let listen = &config.listen;
        let read = |key, now: &Option<Arc<Certificate>>, then: Option<&ListenTls>| {
            if now.is_some() != then.is_some() {
                tracing::warn!("listen.{key}: TLS begins or ends on a listener only by a restart");
            }
            let both = now.as_ref().zip(then);
            let ready = both.map(|(certificate, settings)| certificate.prepare(settings));
            ready.transpose().map_err(|why| anyhow!(why))
        };
        Ok(Renewed {
            public: read("tls", &self.public, listen.tls.as_ref())?,
            admin: read("admin_tls", &self.admin, listen.admin_tls.as_ref())?,
        })
    }

    /// Puts it in force.
    pub fn take(&self, renewed: Renewed) {
        let pairs = [(&self.public, renewed.public), (&self.admin, renewed.admin)];
        for (certificate, ready) in pairs {
            if let (Some(certificate), Some(ready)) = (certificate, ready) {
                certificate.take(ready);
            }
        }
    }
}

impl Server {
    /// Where callers connect, as an address to open.
    pub fn public_url(&self) -> String {
        let scheme = scheme(self.secured.public.as_ref());
        format!("{scheme}://{}", self.public)
    }

    /// The same for operators.
    pub fn admin_url(&self) -> String {
        let scheme = scheme(self.secured.admin.as_ref());
        format!("{scheme}://{}", self.admin)
    }
}

/// How a listener is spoken to.
fn scheme(certificate: Option<&Arc<Certificate>>) -> &'static str {
    certificate.map_or("http", |_| "https")
}
