//! `shunt check --explain`: which route a call would take, on which terms, and why.
//!
//! Promises: told by the gateway's own routing; opens no socket, reads no secret.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use crate::config::Config;
use crate::hot::{Turned, explain};
use crate::server::dry;

/// The call that is asked about.
#[derive(clap::Args)]
pub struct Arguments {
    /// Tell which route such a call takes, with which budget and hedge, and why. BODY is JSON, `@FILE`,
    /// or `-` for what is piped in.
    #[arg(long, num_args = 2..=3, value_names = ["METHOD", "PATH", "BODY"])]
    explain: Vec<String>,
    /// A header of that call, `Name: value`; may be given several times.
    #[arg(short = 'H', long, value_name = "HEADER", requires = "explain")]
    header: Vec<String>,
}

impl Arguments {
    /// Whether a call is asked about.
    pub fn asks(&self) -> bool {
        !self.explain.is_empty()
    }
}

/// Tells what would become of the call.
///
/// # Errors
/// A sentence: the call cannot be written so, or it would be refused.
pub fn run(config: &Config, arguments: &Arguments) -> Result<()> {
    let request = request(arguments)?;
    let (method, path) = (request.method().clone(), request.uri().clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (state, door) = dry(config)?;
    let told = match runtime.block_on(explain(state, &door, request)) {
        Ok(Some(plan)) => plan.to_string(),
        Ok(None) => {
            format!("{method} {path} is answered by the gateway itself: it is no route's\n")
        }
        Err(turned) => bail!(refused(&turned)),
    };
    let mut out = std::io::stdout();
    out.write_all(told.as_bytes())?;
    if let Some(keys) = &config.auth.keys {
        writeln!(out, "  key       each call needs one of {}", keys.display())?;
    }
    Ok(())
}

fn refused(turned: &Turned) -> String {
    let (status, code) = (turned.status.as_u16(), turned.code);
    let mut says = format!("the call would get {status} {code}: {}", turned.message);
    for (name, why) in &turned.passed {
        let _ = write!(says, "\n  not       {name}: {why}");
    }
    says
}

fn request(arguments: &Arguments) -> Result<Request<Bytes>> {
    let [method, path, body @ ..] = arguments.explain.as_slice() else {
        bail!("--explain needs a METHOD and a PATH, such as POST /v1/chat/completions");
    };
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).map_err(|_| {
        anyhow!("`{method}` is no method; write --explain POST /v1/chat/completions")
    })?;
    let wrong = || anyhow!("`{path}` is no path; write it as /v1/chat/completions");
    let uri: Uri = path.parse().map_err(|_| wrong())?;
    // An address copied from an app has scheme and host before its path.
    let path = uri
        .path_and_query()
        .filter(|path| path.as_str().starts_with('/'));
    let path = path.ok_or_else(wrong)?.clone();
    let mut request = Request::new(body.first().map_or(Ok(Bytes::new()), |body| read(body))?);
    *request.method_mut() = method;
    *request.uri_mut() = path.into();
    let headers = request.headers_mut();
    headers.insert(http::header::HOST, HeaderValue::from_static("gateway"));
    for line in &arguments.header {
        let (name, value) = header(line)?;
        match name {
            http::header::HOST => drop(headers.insert(name, value)),
            _ => drop(headers.append(name, value)),
        }
    }
    Ok(request)
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue)> {
    let wrong = || anyhow!("`{line}` is no header; write -H 'Prefer: respond-async'");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    Ok((name, value.trim().parse().map_err(|_| wrong())?))
}

fn read(body: &str) -> Result<Bytes> {
    if body == "-" {
        let mut piped = Vec::new();
        std::io::stdin()
            .read_to_end(&mut piped)
            .context("the piped body cannot be read")?;
        return Ok(piped.into());
    }
    let Some(file) = body.strip_prefix('@') else {
        return Ok(body.to_owned().into());
    };
    let read = std::fs::read(file);
    let read = read.with_context(|| format!("the body's file {file} cannot be read; give @FILE"));
    Ok(read?.into())
}
