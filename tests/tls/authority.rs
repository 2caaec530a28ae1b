//! A certificate authority of a test's own, and who speaks TLS with what it issues.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// Files of a certificate and its key.
#[derive(Clone)]
pub struct Issued {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Issues certificates into a folder.
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub root: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        let root = folder.path().join("root.pem");
        std::fs::write(&root, cert.pem()).expect("a file");
        Self {
            issuer: Issuer::new(params, key),
            folder,
            root,
        }
    }

    /// A certificate for a name, valid until the end of 2098.
    pub fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, 2098)
    }

    /// The same, valid until the end of a year.
    pub fn issue_until(&self, name: &str, year: i32) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(year + 1, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let at = |what: &str| self.folder.path().join(format!("{name}-{year}-{what}.pem"));
        let issued = Issued {
            cert: at("cert"),
            key: at("key"),
        };
        std::fs::write(&issued.cert, cert.pem()).expect("a file");
        std::fs::write(&issued.key, key.serialize_pem()).expect("a file");
        issued
    }

    /// A client that trusts this authority only, and shows a certificate if it has one.
    pub fn client(&self, shown: Option<&Issued>, alpn: &[&[u8]]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots());
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder
                .with_client_auth_cert(shown.chain(), shown.key())
                .expect("a certificate"),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(&self.root).expect("pem");
        roots.add(root).expect("a root");
        roots
    }

    /// A server; `asks` for a certificate of this authority or not.
    pub fn server(&self, shown: &Issued, asks: bool) -> ServerConfig {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let roots = Arc::new(self.roots());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider);
        let builder = if asks {
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        builder
            .with_single_cert(shown.chain(), shown.key())
            .expect("a certificate")
    }
}

impl Issued {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der()]
    }

    /// The certificate.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert).expect("pem")
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.key).expect("pem")
    }

    /// Puts a copy of both files in place of others.
    pub fn copy(&self, cert: &Path, key: &Path) {
        std::fs::copy(&self.cert, cert).expect("a file");
        std::fs::copy(&self.key, key).expect("a file");
    }
}
