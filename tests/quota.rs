//! Hot before cold: jobs never use the part of a provider's quota that is kept for hot calls.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use shunt::server::Server;
use shunt::simulate::{Distribution, QuotaSettings, Settings, Simulation};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Calls that the provider takes a second.
const QUOTA: u32 = 60;

/// Hot calls a second, for three seconds.
const HOT: u32 = 45;
const SECONDS: u32 = 3;

async fn provide(quota: QuotaSettings) -> Simulation {
    let settings = Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        first_token: Distribution::Fixed(0.005),
        token_gap: Distribution::Fixed(0.0),
        tokens: 2,
        quota,
        ..Settings::default()
    };
    Simulation::start(settings).await.expect("a provider")
}

const SIM: &str = r#"
[[routes]]
name    = "chat"
match   = { path = "/v1/*" }
targets = ["sim"]
retries = { max = 0 }
cold    = { max_attempts = 1, concurrency = 64 }
"#;

/// Two targets, of which the second gets calls only while the first is left alone.
const SPARE: &str = r#"
[[routes]]
name    = "chat"
match   = { path = "/v1/*" }
targets = ["sim", { provider = "spare", weight = 0 }]
cold    = { max_attempts = 1, deadline = "2s" }
"#;

fn gateway(provider: &Simulation, dialect: &str, routes: &str, folder: &Path) -> Server {
    let providers = ["sim", "spare"].map(|name| {
        let address = provider.address();
        format!("[providers.{name}]\nbase_url = \"http://{address}\"\ndialect = \"{dialect}\"\n")
    });
    let text = format!(
        "[server]\nworkers = 1\ndrain = \"1s\"\n[cold]\nstore = \"sqlite:{}/jobs.db\"\n\
         [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{}{routes}",
        folder.display(),
        providers.concat(),
    );
    let config = shunt::config::parse(&text, "quota.toml").expect("a configuration");
    Server::start(&config).expect("a gateway")
}

/// One call on a connection of its own.
async fn send(
    address: SocketAddr,
    request: request::Builder,
    body: &'static str,
) -> Response<Bytes> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    let request = request
        .header("host", address.to_string())
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole answer");
    Response::from_parts(head, body.to_bytes())
}

/// A chat completion or a message.
async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
    let mut request = Request::post(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = r#"{"model":"m","messages":[],"max_tokens":8}"#;
    send(address, request, body).await
}

async fn call(address: SocketAddr, path: &str, prefer: &str) -> StatusCode {
    post(address, path, &[("prefer", prefer)]).await.status()
}

/// How a hot call failed, if it did.
async fn failure(address: SocketAddr, path: &str) -> Option<String> {
    let answer = post(address, path, &[]).await;
    let body = String::from_utf8_lossy(answer.body());
    let failed = answer.status() != StatusCode::OK;
    failed.then(|| format!("{}: {body}", answer.status()))
}

async fn get(address: SocketAddr, path: &str) -> String {
    let answer = send(address, Request::get(path), "").await;
    String::from_utf8(answer.body().to_vec()).expect("text")
}

async fn queue(address: SocketAddr, path: &'static str, jobs: usize) {
    let mut callers = JoinSet::new();
    for _ in 0..jobs {
        callers.spawn(call(address, path, "respond-async, wait=0"));
        if callers.len() >= 16 {
            let status = callers
                .join_next()
                .await
                .expect("a call")
                .expect("no panic");
            assert_eq!(status, StatusCode::ACCEPTED);
        }
    }
    while let Some(done) = callers.join_next().await {
        assert_eq!(done.expect("no panic"), StatusCode::ACCEPTED);
    }
}

/// Hot calls at their rate; gives how those failed that were not answered well.
async fn hot(address: SocketAddr, path: &'static str) -> Vec<String> {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for number in 0..HOT * SECONDS {
        sleep_until(began + Duration::from_secs(1) / HOT * number).await;
        callers.spawn(failure(address, path));
    }
    callers.join_all().await.into_iter().flatten().collect()
}

/// How many jobs succeeded.
fn succeeded(server: &Server) -> u64 {
    server.counter_sum("shunt_job_attempts_total", "result=\"succeeded\"")
}

async fn until_succeeded(server: &Server, count: u64) {
    let done = async {
        while succeeded(server) < count {
            sleep_until(Instant::now() + Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), done)
        .await
        .expect("every job succeeds");
}

/// A provider and a gateway, and what runs against them.
struct Stage {
    provider: Simulation,
    server: Server,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new(dialect: &str, routes: &str, requests: u32, headers: bool) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let provider = runtime.block_on(provide(QuotaSettings { requests, headers }));
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            server: gateway(&provider, dialect, routes, folder.path()),
            provider,
            runtime,
            _folder: folder,
        }
    }

    fn end(self) {
        assert_eq!(self.server.drain(), 0, "tasks were left");
    }
}

fn jobs_leave_hot_calls_their_quota(dialect: &str, path: &'static str) {
    let stage = Stage::new(dialect, SIM, QUOTA, true);
    let public = stage.server.public;
    stage.runtime.block_on(async {
        // One answer tells the quota before the jobs come.
        let first = call(public, path, "").await;
        assert_eq!(first, StatusCode::OK);
        let (failed, ()) = tokio::join!(hot(public, path), queue(public, path, 150));
        let done = succeeded(&stage.server);
        assert!(failed.is_empty(), "hot calls failed: {failed:?}");
        assert!(done < 150, "the jobs were over before the hot calls were");
        until_succeeded(&stage.server, 150).await;
        let metrics = get(stage.server.admin, "/metrics").await;
        let ratio = "shunt_quota_remaining_ratio{provider=\"sim\",kind=\"requests\"}";
        assert!(metrics.contains(ratio), "{metrics}");
        let routes = get(stage.server.admin, "/api/routes").await;
        let routes: serde_json::Value = serde_json::from_str(&routes).expect("JSON");
        let told = &routes["routes"][0]["targets"][0]["quota"]["requests"];
        assert_eq!(told["limit"], QUOTA);
    });
    let held = stage
        .server
        .counter_sum("shunt_jobs_held_total", "reason=\"requests\"");
    assert!(held > 0, "no job was held");
    stage.end();
}

#[test]
fn jobs_leave_hot_calls_their_quota_at_openai() {
    jobs_leave_hot_calls_their_quota("openai", "/v1/chat/completions");
}

#[test]
fn jobs_leave_hot_calls_their_quota_at_anthropic() {
    jobs_leave_hot_calls_their_quota("anthropic", "/v1/messages");
}

#[test]
fn a_job_does_not_fail_for_429s_however_few_attempts_it_has() {
    let stage = Stage::new("openai", SIM, 25, false);
    stage.runtime.block_on(async {
        queue(stage.server.public, "/v1/chat/completions", 80).await;
        until_succeeded(&stage.server, 80).await;
    });
    let refused = stage.provider.stats().total.received - 80;
    assert!(refused > 0, "nothing was refused, so nothing was tested");
    assert!(refused < 80, "{refused} calls were refused for 80 jobs");
    stage.end();
}

#[test]
fn a_job_that_is_refused_sends_no_hot_call_elsewhere_and_ends_by_its_deadline() {
    let stage = Stage::new("openai", SPARE, 0, false);
    let (public, path) = (stage.server.public, "/v1/chat/completions");
    stage.runtime.block_on(async {
        let refused = [("prefer", "respond-async, wait=0"), ("x-sim-status", "429")];
        let accepted = post(public, path, &refused).await;
        let job = accepted.headers()["location"].to_str().expect("a path");
        let label = "result=\"rate_limited\"";
        while stage.server.counter_sum("shunt_job_attempts_total", label) == 0 {
            sleep_until(Instant::now() + Duration::from_millis(1)).await;
        }
        let answer = post(public, path, &[]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-shunt-target"], "sim");
        let ended = async {
            loop {
                let job: serde_json::Value =
                    serde_json::from_str(&get(public, job).await).expect("JSON");
                if job["finished_at"].is_string() {
                    break job;
                }
                sleep_until(Instant::now() + Duration::from_millis(50)).await;
            }
        };
        let job = timeout(Duration::from_secs(20), ended)
            .await
            .expect("it ends");
        assert_eq!(job["status"], "expired");
    });
    // It was sent more often than `max_attempts` says.
    assert!(stage.provider.stats().total.received > 2);
    stage.end();
}
