//! Gateways, each a process of its own: started, told something by a signal, killed with -9, started
//! again.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;

use crate::KEYS;

/// A gateway that accepts.
#[derive(Clone, Copy, Debug)]
pub struct Living {
    pub gateway: usize,
    pub public: SocketAddr,
    pub admin: SocketAddr,
}

/// A gateway's death: it began to die at `from` and was dead at `dead`.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    pub gateway: usize,
    pub from: Instant,
    pub dead: Instant,
}

/// How gateways are started.
pub struct Start {
    /// Where its files are: configuration and log of each gateway.
    pub folder: PathBuf,
    pub shunt: PathBuf,
    /// What every gateway finds in its environment.
    pub environment: Vec<(String, String)>,
    /// What goes before each gateway's command line, such as a program that starts it.
    pub before: Vec<Vec<String>>,
}

struct Running {
    process: Child,
    /// Held open: a gateway that cannot print would end.
    _out: BufReader<ChildStdout>,
}

/// All of them.
pub struct House {
    start: Start,
    running: Mutex<Vec<Option<Running>>>,
    living: ArcSwap<Vec<Living>>,
    kills: Mutex<Vec<Kill>>,
}

/// How long a gateway may take to accept after its start.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every gateway of a house has in common.
pub struct Plan<'a> {
    pub folder: &'a Path,
    pub shunt: PathBuf,
    pub store: &'a str,
    pub secret: &'a str,
    pub receiver: SocketAddr,
    /// Seconds.
    pub heartbeat: u32,
}

impl House {
    /// Starts one gateway for each provider.
    ///
    /// # Errors
    /// One does not start.
    pub fn start(plan: &Plan, providers: &[SocketAddr]) -> Result<Self> {
        let configs: Vec<_> = providers.iter().map(|one| config(plan, *one)).collect();
        let start = Start {
            folder: plan.folder.to_owned(),
            shunt: plan.shunt.clone(),
            environment: vec![("STORM_SECRET".into(), plan.secret.to_owned())],
            before: vec![Vec::new(); configs.len()],
        };
        Self::begin(start, &configs)
    }

    /// Starts one gateway for each configuration.
    ///
    /// # Errors
    /// One does not start.
    pub fn begin(start: Start, configs: &[String]) -> Result<Self> {
        let house = Self {
            start,
            running: Mutex::new(configs.iter().map(|_| None).collect()),
            living: ArcSwap::default(),
            kills: Mutex::default(),
        };
        for (gateway, text) in configs.iter().enumerate() {
            std::fs::write(house.file(gateway, "toml"), text)?;
            house.run(gateway)?;
        }
        Ok(house)
    }

    fn file(&self, gateway: usize, ending: &str) -> PathBuf {
        self.start
            .folder
            .join(format!("gateway-{gateway}.{ending}"))
    }

    /// Who accepts.
    pub fn living(&self) -> Arc<Vec<Living>> {
        self.living.load_full()
    }

    /// Who died, and when.
    pub fn kills(&self) -> Vec<Kill> {
        let kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        kills.clone()
    }

    /// Kills a gateway with -9.
    pub fn kill(&self, gateway: usize) -> Result<()> {
        self.end(gateway, "-KILL").map(|_| ())
    }

    /// Ends a gateway by a signal; gives how it ended, if it ran. Callers go elsewhere from then on.
    pub fn end(&self, gateway: usize, signal: &str) -> Result<Option<ExitStatus>> {
        let taken = self.slots()[gateway].take();
        let Some(mut running) = taken else {
            return Ok(None);
        };
        let others = self
            .living()
            .iter()
            .filter(|one| one.gateway != gateway)
            .copied()
            .collect();
        self.living.store(Arc::new(others));
        let from = Instant::now();
        tell(running.process.id(), signal)?;
        let ended = running.process.wait()?;
        let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        kills.push(Kill {
            gateway,
            from,
            dead: Instant::now(),
        });
        Ok(Some(ended))
    }

    /// The process of a gateway that runs.
    pub fn process(&self, gateway: usize) -> Option<u32> {
        let slots = self.slots();
        slots[gateway].as_ref().map(|one| one.process.id())
    }

    /// Starts a gateway, as often as it takes: one that cannot reach its store may end. Gives how
    /// long it took until it accepted.
    pub fn run(&self, gateway: usize) -> Result<Duration> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some((running, living)) = self.spawn(gateway)? {
                self.slots()[gateway] = Some(running);
                let mut all = self.living().to_vec();
                all.push(living);
                self.living.store(Arc::new(all));
                return Ok(began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("gateway {gateway} does not start: {}", self.log(gateway))
    }

    /// `None`: it ended before it accepted.
    fn spawn(&self, gateway: usize) -> Result<Option<(Running, Living)>> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file(gateway, "log"))?;
        let shunt = self.start.shunt.display().to_string();
        let file = self.file(gateway, "toml").display().to_string();
        let mut words = self.start.before[gateway].clone();
        words.extend([shunt, "serve".into(), "--config".into(), file]);
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .envs(self.start.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| words[0].clone())?;
        let out = process.stdout.take().context("no output")?;
        let mut out = BufReader::new(out);
        let (mut public, mut admin) = (None, None);
        loop {
            if let (Some(public), Some(admin)) = (public, admin) {
                let living = Living {
                    gateway,
                    public,
                    admin,
                };
                let running = Running { process, _out: out };
                return Ok(Some((running, living)));
            }
            let mut line = String::new();
            if out.read_line(&mut line)? == 0 {
                process.wait()?;
                return Ok(None);
            }
            let address = |name: &str| {
                let rest = line.trim().strip_prefix(name)?;
                rest.strip_prefix(" listening on http://")?.parse().ok()
            };
            public = public.or_else(|| address("public"));
            admin = admin.or_else(|| address("admin"));
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Vec<Option<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of what a gateway logged.
    pub fn log(&self, gateway: usize) -> String {
        let log = std::fs::read_to_string(self.file(gateway, "log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// When a gateway wrote these words into its log.
    pub fn told(&self, gateway: usize, words: &str) -> Vec<SystemTime> {
        let log = std::fs::read_to_string(self.file(gateway, "log")).unwrap_or_default();
        let at = |line: &str| {
            let stamp: jiff::Timestamp = line.split(' ').next()?.parse().ok()?;
            let since = Duration::from_millis(stamp.as_millisecond().try_into().ok()?);
            Some(SystemTime::UNIX_EPOCH + since)
        };
        log.lines()
            .filter(|line| line.contains(words))
            .filter_map(at)
            .collect()
    }
}

/// Sends a signal, such as `-HUP`.
///
/// # Errors
/// The process is gone.
pub fn tell(process: u32, signal: &str) -> Result<()> {
    let told = Command::new("kill")
        .args([signal, &process.to_string()])
        .output()?;
    let why = String::from_utf8_lossy(&told.stderr);
    anyhow::ensure!(told.status.success(), "kill {signal} {process}: {why}");
    Ok(())
}

impl Drop for House {
    fn drop(&mut self) {
        for running in self.slots().iter_mut().filter_map(Option::take) {
            let mut running = running;
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }
}

fn config(plan: &Plan, provider: SocketAddr) -> String {
    let Plan {
        store,
        receiver,
        heartbeat,
        ..
    } = plan;
    format!(
        r#"
[listen]
public = "127.0.0.1:0"
admin  = "127.0.0.1:0"
[server]
workers = 1
[providers.sim]
base_url = "http://{provider}"
dialect  = "openai"
[[routes]]
name    = "cold"
match   = {{ path = "/v1/chat/completions", model = "gpt-*" }}
targets = ["sim"]
budget  = {{ first_token = "5s", total = "5s" }}
retries = {{ max = 0 }}
predict = {{ floor = 0 }}
cold    = {{ concurrency = 256 }}
[[routes]]
name    = "hot"
match   = {{ path = "/v1/chat/completions", model = "hot" }}
targets = ["sim"]
budget  = {{ first_token = "5s", total = "5s" }}
retries = {{ max = 0 }}
predict = {{ floor = 0 }}
[cold]
store       = "{store}"
queue_limit = 1000000
heartbeat   = "{heartbeat}s"
seal_keys_env = "{KEYS}"
[callbacks]
secret       = {{ env = "STORM_SECRET" }}
allow        = ["http://{receiver}/*"]
concurrency  = 256
per_endpoint = 256
"#
    )
}
