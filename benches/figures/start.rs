//! From the start of a process to its first answer, what the binary weighs, and what reloads cost
//! the calls that run meanwhile. The gateway is the real binary, a process of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::behave::{Called, Providers, arrive};
use super::rig::{at, sorted};
use super::storm::shunt;

const STARTS: usize = 11;

/// Jobs that a warm store holds.
const JOBS: usize = 500;

/// Calls a second, seconds of a round, and rounds with and without reloads.
const RATE: u32 = 1_000;
const SECONDS: u32 = 20;
const ROUNDS: usize = 5;

/// A gateway's process.
struct Process {
    child: Child,
    public: SocketAddr,
    admin: SocketAddr,
    /// From its start to the line that says where callers connect.
    told: Duration,
    /// Held open: a gateway that cannot print would end.
    _out: BufReader<std::process::ChildStdout>,
}

/// A file as a team would write it: providers by https, three routes with all that costs something.
fn write(folder: &Path, provider: SocketAddr, total: &str) -> Result<PathBuf> {
    let text = format!(
        "[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [server]\nworkers = 1\ndrain = \"1s\"\n\
         [cold]\nstore = \"sqlite:{}/jobs.db\"\n\
         [providers.openai]\nbase_url = \"https://127.0.0.1:1\"\ndialect = \"openai\"\n\
         warm_connections = 0\n\
         [providers.anthropic]\nbase_url = \"https://127.0.0.1:1\"\ndialect = \"anthropic\"\n\
         warm_connections = 0\n\
         [providers.sim]\nbase_url = \"http://{provider}\"\ndialect = \"openai\"\n\
         [[routes]]\nname = \"messages\"\nmatch = {{ path = \"/v1/messages\" }}\n\
         targets = [\"anthropic\"]\nbudget = {{ first_token = \"2s\", total = \"30s\" }}\n\
         [[routes]]\nname = \"chat\"\nmatch = {{ path = \"/v1/chat/completions\" }}\n\
         targets = [\"sim\"]\nbudget = {{ first_token = \"2s\", total = \"{total}\" }}\n\
         hedge = {{ after = \"p95\" }}\n\
         [[routes]]\nname = \"rest\"\nmatch = {{ path = \"/v1/*\" }}\ntargets = [\"openai\"]\n",
        folder.display()
    );
    let file = folder.join("shunt.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

impl Process {
    fn start(file: &Path) -> Result<Self> {
        let began = Instant::now();
        let mut child = Command::new(shunt())
            .arg("serve")
            .arg("--config")
            .arg(file)
            .env("SHUNT_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("it has an output")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let told = began.elapsed();
        let public = address(&line)?;
        line.clear();
        out.read_line(&mut line)?;
        Ok(Self {
            admin: address(&line)?,
            _out: out,
            child,
            public,
            told,
        })
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status()?;
        ensure!(sent.success(), "the gateway is gone");
        Ok(())
    }

    fn stop(mut self) -> Result<()> {
        self.signal("-TERM")?;
        let ended = self.child.wait()?;
        ensure!(ended.success(), "the gateway ended with {ended}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(line: &str) -> Result<SocketAddr> {
    let found = line
        .trim()
        .rsplit("//")
        .next()
        .and_then(|at| at.parse().ok());
    found.with_context(|| format!("`{line}` tells no address"))
}

/// One request on a connection of its own, and its whole answer.
fn ask(at: SocketAddr, head: &str, prefer: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         prefer: {prefer}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

const CALL: &str = "POST /v1/chat/completions";
const BODY: &str = r#"{"model":"m","messages":[],"stream":true}"#;

/// Milliseconds from the start to the line that tells the address, and to the first answer.
fn starts(provider: SocketAddr, warm: bool) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut told, mut answered) = (Vec::new(), Vec::new());
    let kept = tempfile::tempdir()?;
    if warm {
        let process = Process::start(&write(kept.path(), provider, "30s")?)?;
        for _ in 0..JOBS {
            let made = ask(process.public, CALL, "respond-async, wait=0", BODY)?;
            ensure!(made.starts_with("HTTP/1.1 202"), "{made}");
        }
        process.stop()?;
    }
    for _ in 0..STARTS {
        let fresh = tempfile::tempdir()?;
        let folder = if warm { &kept } else { &fresh };
        let file = write(folder.path(), provider, "30s")?;
        let began = Instant::now();
        let process = Process::start(&file)?;
        let answer = ask(process.public, CALL, "respond-async", BODY)?;
        answered.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        told.push(process.told.as_secs_f64() * 1e3);
        process.stop()?;
    }
    Ok((sorted(told), sorted(answered)))
}

fn weigh() -> Result<()> {
    let mebi = |path: &Path| -> Result<f64> {
        Ok(std::fs::metadata(path)?.len() as f64 / f64::from(1 << 20))
    };
    let folder = tempfile::tempdir()?;
    let bare = folder.path().join("bare");
    let stripped = Command::new("strip")
        .arg("-o")
        .arg(&bare)
        .arg(shunt())
        .status();
    let without = match stripped {
        Ok(done) if done.success() => format!("{:.1} MiB", mebi(&bare)?),
        _ => "not measured: no strip".into(),
    };
    println!(
        "binary: {:.1} MiB as it is built, {without} without symbols and line tables",
        mebi(&shunt())?
    );
    Ok(())
}

/// A round of calls; with reloads each second, or without.
fn round(provider: SocketAddr, reloads: bool) -> Result<Vec<Called>> {
    let folder = tempfile::tempdir()?;
    let file = write(folder.path(), provider, "30s")?;
    let process = Process::start(&file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let calls = std::thread::scope(|scope| {
        let public = process.public;
        let load = scope.spawn(move || runtime.block_on(arrive(public, RATE, SECONDS)));
        for second in 1..SECONDS {
            std::thread::sleep(Duration::from_secs(1));
            // Each time another file, so that routes are made anew; the control is asked as often.
            let total = if second % 2 == 0 { "30s" } else { "31s" };
            write(folder.path(), provider, total)?;
            process.signal(if reloads { "-HUP" } else { "-0" })?;
        }
        match load.join() {
            Ok(calls) => calls,
            Err(_) => bail!("the load ended with a panic"),
        }
    })?;
    let metrics = ask(process.admin, "GET /metrics", "respond-async", "")?;
    let count = format!(
        "shunt_config_reloads_total{{result=\"ok\"}} {}",
        SECONDS - 1
    );
    ensure!(
        metrics.contains(&count) == reloads,
        "reloads were not counted: {metrics}"
    );
    process.stop()?;
    Ok(calls)
}

/// Prints all three.
pub fn run() -> Result<()> {
    let providers = Providers::start(1, Arc::new(|_, _| (Duration::ZERO, 200)))?;
    let provider = providers.addresses[0];
    weigh()?;
    for (warm, name) in [(false, "no store yet"), (true, "a store that was used")] {
        let (told, answered) = starts(provider, warm)?;
        println!(
            "start, {name}: accepting after {:.1} ms (worst {:.1}), first answer after {:.1} ms (worst {:.1}); median of {STARTS}",
            at(&told, 0.5),
            at(&told, 1.0),
            at(&answered, 0.5),
            at(&answered, 1.0),
        );
    }
    let mut tails = [Vec::new(), Vec::new()];
    let (mut wrong, mut ratios) = (0, Vec::new());
    for number in 0..ROUNDS {
        let mut pair = [0.0; 2];
        // Which of the two comes first alternates.
        for reloads in [number % 2 == 0, number % 2 == 1] {
            let calls = round(provider, reloads)?;
            ensure!(
                calls.len() == (RATE * SECONDS) as usize,
                "calls are missing"
            );
            wrong += calls.iter().filter(|call| call.status != 200).count();
            let took = sorted(calls.iter().map(|call| call.took * 1e3).collect());
            pair[usize::from(reloads)] = at(&took, 0.99);
        }
        tails[0].push(pair[0]);
        tails[1].push(pair[1]);
        ratios.push(pair[1] / pair[0]);
    }
    let [without, with] = tails.map(sorted);
    println!(
        "reload: {RATE} calls a second, {ROUNDS} rounds of {SECONDS} s, a SIGHUP each second: {wrong} calls failed; \
         p99 {:.2} ms without, {:.2} ms with; ratio {:.2} (medians of rounds)",
        at(&without, 0.5),
        at(&with, 0.5),
        at(&sorted(ratios), 0.5),
    );
    Ok(())
}
