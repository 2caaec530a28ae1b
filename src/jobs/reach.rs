//! The way to an admin listener: cleartext, or TLS with what it asks for.
//!
//! Promises: who answers is verified against the system's roots or the file of `--ca`; a name or a
//! certificate that does not fit ends it. Never falls back from `https` to `http`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use http::Uri;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{ClientCertificate, Secret, SecretSource};
use crate::upstream::tls::Roots;

/// How the admin listener is reached.
#[derive(clap::Args)]
pub struct Reach {
    /// The gateway's admin listener.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8081")]
    pub admin: String,
    /// Roots to trust besides the system's, for an https address. PEM.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show, where the listener asks for one. PEM.
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its key. PEM; may be in the same file.
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The environment variable that holds the admin listener's token, if it wants one.
    #[arg(long, global = true, value_name = "VAR")]
    admin_token_env: Option<String>,
}

/// A connection, whatever it is made of.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Reach {
    /// A connection to it, and the `Host` to ask for.
    ///
    /// # Errors
    /// A sentence: the address or a file is wrong, nobody answers, or it is somebody else.
    pub async fn connect(&self) -> Result<(Box<dyn Stream>, String)> {
        let admin = &self.admin;
        let wrong =
            || anyhow!("--admin `{admin}` is no address; write it as http://127.0.0.1:8081");
        let address: Uri = admin.parse().map_err(|_| wrong())?;
        let secure = match address.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let host = address.host().ok_or_else(wrong)?;
        let port = address.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let bare = host.trim_matches(['[', ']']);
        // Before anybody is spoken to: what is wrong with the files is no fault of the gateway.
        let tls = secure.then(|| self.tls()).transpose()?;
        let stream = TcpStream::connect((bare, port)).await;
        let stream = stream.with_context(|| self.away())?;
        let said = format!("{host}:{port}");
        let Some(tls) = tls else {
            return Ok((Box::new(stream), said));
        };
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| wrong())?;
        let shaken = tls.connect(name, stream).await;
        let why = || format!("no TLS with {admin}; see --ca, --cert and --key");
        Ok((Box::new(shaken.with_context(why)?), said))
    }

    /// The admin listener's token, where one is named.
    ///
    /// # Errors
    /// A sentence: the variable is not set.
    pub fn token(&self) -> Result<Option<Secret>> {
        let Some(name) = &self.admin_token_env else {
            return Ok(None);
        };
        let source = SecretSource {
            env: Some(name.clone()),
            file: None,
        };
        source.read().map(Some).map_err(|why| anyhow!(why))
    }

    /// What is said where no gateway answers.
    pub fn away(&self) -> String {
        let admin = &self.admin;
        format!("no gateway answers at {admin}; start it, or name its admin listener with --admin")
    }

    fn tls(&self) -> Result<TlsConnector> {
        let shown = self.cert.as_ref().map(|cert| ClientCertificate {
            cert: cert.clone(),
            key: self.key.as_ref().unwrap_or(cert).clone(),
        });
        let roots = Roots::of_the_system();
        let config = roots.client(self.ca.as_deref(), shown.as_ref(), &[b"http/1.1"]);
        Ok(TlsConnector::from(config.map_err(|why| anyhow!(why))?))
    }
}
