//! TLS towards providers and callback receivers: rustls, the system's roots.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::ClientCertificate;

/// Roots of the system, read once.
pub struct Roots(RootCertStore);

impl Roots {
    /// Reads the system's roots; certificates that cannot be read are left out.
    pub fn of_the_system() -> Self {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        Self(store)
    }

    /// No roots but those of a `ca`.
    pub fn none() -> Self {
        Self(RootCertStore::empty())
    }

    /// A client configuration that trusts these roots and those in `ca`, shows a certificate where
    /// it is asked for one, and offers `alpn`. The name of the server is verified; TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// A sentence when a file cannot be read or used.
    pub fn client(
        &self,
        ca: Option<&Path>,
        shown: Option<&ClientCertificate>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, String> {
        let mut roots = self.0.clone();
        if let Some(path) = ca {
            for root in certificates(path)? {
                roots.add(root).map_err(|error| told(path, &error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let key = PrivateKeyDer::from_pem_file(&files.key);
                let key = key.map_err(|error| told(&files.key, &error))?;
                let config = builder.with_client_auth_cert(certificates(&files.cert)?, key);
                config.map_err(|error| told(&files.key, &error))?
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path);
    let all: Result<Vec<_>, _> = read.and_then(Iterator::collect);
    let all = all.map_err(|error| told(path, &error))?;
    if all.is_empty() {
        return Err(told(path, &"holds no certificate; it must be a PEM file"));
    }
    Ok(all)
}

fn told(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}
