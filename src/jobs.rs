//! `shunt jobs`: the cold path from a shell, over the admin listener.
//!
//! Promises: prints a table, or with `--json` what the gateway said; an error is one sentence.
//! Opens no store: whatever it shows or does, the gateway shows or does.

pub(crate) mod reach;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use self::reach::Reach;

/// What is to be done.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON as the gateway sent it.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List jobs, newest first.
    List {
        /// Only in this state: queued, running, succeeded, failed, cancelled or expired.
        #[arg(long)]
        status: Option<String>,
        /// Only of this route.
        #[arg(long)]
        route: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Only those older than this one.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Show a job with its history.
    Show(Id),
    /// Cancel a job, its provider call too.
    Cancel(Id),
    /// Run a failed, expired or cancelled job again.
    Retry(Id),
    /// Deliver a finished job's callback again, under the same webhook-id.
    ReplayCallback(Id),
}

#[derive(clap::Args)]
struct Id {
    /// The job, `job_…`.
    id: String,
}

/// Longest that the gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does it and prints what came of it.
///
/// # Errors
/// A sentence: there is no gateway, no such job, or it cannot be done.
pub fn run(arguments: &Arguments) -> Result<()> {
    let (method, path) = page(&arguments.command)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = ask(&arguments.reach, method, &path);
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
    let answer = answer.map_err(|_| {
        let admin = &arguments.reach.admin;
        anyhow!("the gateway at {admin} did not answer within 30 s; look at its /readyz")
    })??;
    let text = if arguments.json {
        format!("{}\n", serde_json::to_string_pretty(&answer)?)
    } else {
        match arguments.command {
            Command::List { .. } => table(&answer),
            _ => sheet(&answer),
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Letters, digits and what stands between them in names; all else percent-encoded.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn page(command: &Command) -> Result<(Method, String)> {
    let of = |id: &Id, what: &str| {
        if !id.id.starts_with("job_") {
            bail!(
                "`{}` is no job's id; `shunt jobs list` shows them, `job_…`",
                id.id
            );
        }
        Ok(format!("/api/jobs/{}{what}", encoded(&id.id)))
    };
    Ok(match command {
        Command::List {
            status,
            route,
            limit,
            after,
        } => {
            let mut path = format!("/api/jobs?limit={limit}");
            for (name, value) in [("status", status), ("route", route), ("after", after)] {
                if let Some(value) = value {
                    let _ = write!(path, "&{name}={}", encoded(value));
                }
            }
            (Method::GET, path)
        }
        Command::Show(id) => (Method::GET, of(id, "")?),
        Command::Cancel(id) => (Method::POST, of(id, "/cancel")?),
        Command::Retry(id) => (Method::POST, of(id, "/retry")?),
        Command::ReplayCallback(id) => (Method::POST, of(id, "/replay-callback")?),
    })
}

async fn ask(reach: &Reach, method: Method, path: &str) -> Result<Value> {
    let admin = &reach.admin;
    let away = || reach.away();
    let (stream, host) = reach.connect().await?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .with_context(away)?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host);
    if let Some(token) = reach.token()? {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        anyhow::Ok((head.status, body.collect().await?.to_bytes()))
    };
    tokio::pin!(exchange, driver);
    let answer = tokio::select! {
        answer = &mut exchange => answer,
        _ = &mut driver => exchange.await,
    };
    let (status, body) = answer.with_context(away)?;
    let none = || format!("{admin} is no admin listener of a gateway; name it with --admin");
    if !status.is_success() {
        let says = String::from_utf8_lossy(&body);
        match says.trim() {
            "" => bail!("{admin} answered {status}; name a gateway's admin listener with --admin"),
            // The admin listener says sentences; a public one says JSON.
            says if says.starts_with('{') => bail!("{}", none()),
            says => bail!("{says}"),
        }
    }
    serde_json::from_slice(&body).with_context(none)
}

/// A value for a terminal: what a caller or a provider wrote cannot move the cursor.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.replace(char::is_control, " ")
}

fn rows(head: &[&str], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(head.iter().map(ToString::to_string).collect());
    let all: Vec<Vec<String>> = all().chain(rows.iter().cloned()).collect();
    let width = |at: usize| all.iter().map(|row| row[at].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    text
}

fn table(answer: &Value) -> String {
    let none = Vec::new();
    let jobs = answer["data"].as_array().unwrap_or(&none);
    if jobs.is_empty() {
        return "there are no such jobs\n".into();
    }
    let fields = ["id", "status", "route", "reason", "attempts", "created_at"];
    let row = |job: &Value| {
        let mut row: Vec<String> = fields.iter().map(|name| plain(&job[*name])).collect();
        row.push(plain(&job["callback"]["status"]));
        row
    };
    let body: Vec<_> = jobs.iter().map(row).collect();
    let head = [
        "ID", "STATUS", "ROUTE", "REASON", "ATTEMPTS", "CREATED", "CALLBACK",
    ];
    rows(&head, &body)
}

fn sheet(job: &Value) -> String {
    let mut lines = Vec::new();
    for name in [
        "id",
        "status",
        "route",
        "reason",
        "priority",
        "scope",
        "attempts",
        "budget_ms",
        "elapsed_ms",
        "created_at",
        "expires_at",
        "finished_at",
    ] {
        if !job[name].is_null() {
            lines.push(vec![name.to_owned(), plain(&job[name])]);
        }
    }
    if let Some(error) = job["error"].as_object() {
        let says = format!("{}: {}", plain(&error["code"]), plain(&error["message"]));
        lines.push(vec!["error".into(), says]);
    }
    if let Some(callback) = job["callback"].as_object() {
        for (name, value) in callback {
            lines.push(vec![format!("callback {name}"), plain(value)]);
        }
    }
    let mut text = rows(&["FIELD", "VALUE"], &lines);
    if let Some(history) = job["history"].as_array() {
        let fields = [
            "number", "target", "began", "ended", "result", "status", "gateway", "error",
        ];
        let row = |one: &Value| fields.iter().map(|name| plain(&one[*name])).collect();
        let body: Vec<Vec<String>> = history.iter().map(row).collect();
        let head = fields.map(str::to_uppercase);
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let _ = write!(text, "\n{}", rows(&head, &body));
    }
    text
}
