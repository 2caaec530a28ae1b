//! A gateway in front of a provider, and a client that keeps its connection.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shunt::config;
use shunt::server::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Starts a gateway with one worker; `route` is further TOML.
pub fn gateway(
    provider: SocketAddr,
    dialect: &str,
    route: &str,
) -> Result<(Server, tempfile::TempDir)> {
    start(&format!(
        "[providers.sim]\nbase_url = \"http://{provider}\"\ndialect = \"{dialect}\"\n{route}"
    ))
}

/// The same with several providers, named `p0`, `p1` and so on.
pub fn gateway_with(
    providers: &[SocketAddr],
    dialect: &str,
    route: &str,
) -> Result<(Server, tempfile::TempDir)> {
    let tables = providers.iter().enumerate().map(|(at, address)| {
        format!("[providers.p{at}]\nbase_url = \"http://{address}\"\ndialect = \"{dialect}\"\n")
    });
    start(&(tables.collect::<String>() + route))
}

fn start(further: &str) -> Result<(Server, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let store = format!("sqlite:{}/jobs.db", folder.path().display());
    Ok((start_on(&store, further)?, folder))
}

/// Starts a gateway on any store; `further` begins within `[cold]`.
pub fn start_on(store: &str, further: &str) -> Result<Server> {
    let text = format!(
        "[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [server]\nworkers = 1\ndrain = \"1s\"\n\
         [cold]\nstore = \"{store}\"\n{further}"
    );
    Server::start(&config::parse(&text, "figures")?)
}

/// A client's connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    _driver: JoinSet<()>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = driver.await;
        });
        Ok(Self {
            sender,
            address,
            _driver: tasks,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub async fn post(
        &mut self,
        path: &str,
        body: Bytes,
    ) -> Result<Response<hyper::body::Incoming>> {
        self.tagged(path, "", body).await
    }

    /// The same with a tag, by which the simulated provider tells it apart.
    pub async fn tagged(
        &mut self,
        path: &str,
        tag: &str,
        body: Bytes,
    ) -> Result<Response<hyper::body::Incoming>> {
        self.with(path, "x-request-tag", tag, body).await
    }

    /// The same with any header.
    pub async fn with(
        &mut self,
        path: &str,
        name: &'static str,
        value: &str,
        body: Bytes,
    ) -> Result<Response<hyper::body::Incoming>> {
        let request = Request::post(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .header(name, value)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Any request, and its whole answer.
    pub async fn request(&mut self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    pub async fn whole(&mut self, path: &str, body: Bytes) -> Result<(u16, Bytes)> {
        let answer = self.post(path, body).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

/// What the simulated provider tells of the calls that ended.
pub async fn calls(provider: SocketAddr) -> Result<serde_json::Value> {
    let mut connection = TcpStream::connect(provider).await?;
    connection
        .write_all(b"GET /calls HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    let body = answer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap_or(0)
        + 4;
    Ok(serde_json::from_slice(&answer[body..])?)
}

/// The value at a share of sorted samples.
pub fn at(sorted: &[f64], share: f64) -> f64 {
    let wanted = share * sorted.len() as f64;
    let found = (1..=sorted.len()).find(|rank| *rank as f64 >= wanted);
    sorted[found.unwrap_or(sorted.len()) - 1]
}

pub fn sorted(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    samples
}
