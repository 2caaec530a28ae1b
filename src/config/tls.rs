//! Certificates: of listeners, and of the gateway itself towards providers.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Listen;

/// A listener's certificate, and whose certificates its callers need. PEM files; read again on
/// SIGHUP and when they change.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Roots of callers' certificates; given: only callers with a certificate of one of them get in.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// What the gateway shows to who asks it for a certificate. PEM files.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Listen {
    /// Whether operators show a certificate before they get in.
    pub fn admin_is_mutual(&self) -> bool {
        let tls = self.admin_tls.as_ref();
        tls.is_some_and(|tls| tls.client_ca.is_some())
    }
}
