//! TLS towards providers and callback receivers: rustls, the system's roots.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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

    /// A client configuration that trusts these roots and those in `ca`, and offers `alpn`.
    ///
    /// # Errors
    /// A sentence when `ca` cannot be read.
    pub fn client(&self, ca: Option<&Path>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, String> {
        let mut roots = self.0.clone();
        if let Some(path) = ca {
            let told =
                |error| format!("the file {} holds no certificates: {error}", path.display());
            let further = CertificateDer::pem_file_iter(path).map_err(told)?;
            for one in further {
                let one = one.map_err(told)?;
                roots
                    .add(one)
                    .map_err(|error| format!("a certificate in {}: {error}", path.display()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}
