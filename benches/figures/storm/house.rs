//! The gateways of a storm, each a process of its own: started, killed with -9, started again.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

struct Running {
    process: Child,
    /// Held open: a gateway that cannot print would end.
    _out: BufReader<ChildStdout>,
}

/// All of them.
pub struct House {
    folder: PathBuf,
    shunt: PathBuf,
    secret: String,
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
        let house = Self {
            folder: plan.folder.to_owned(),
            shunt: plan.shunt.clone(),
            secret: plan.secret.to_owned(),
            running: Mutex::new(providers.iter().map(|_| None).collect()),
            living: ArcSwap::default(),
            kills: Mutex::default(),
        };
        for (gateway, provider) in providers.iter().enumerate() {
            let text = config(plan, *provider);
            std::fs::write(house.file(gateway, "toml"), text)?;
            house.run(gateway)?;
        }
        Ok(house)
    }

    fn file(&self, gateway: usize, ending: &str) -> PathBuf {
        self.folder.join(format!("gateway-{gateway}.{ending}"))
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
        let taken = self.slots()[gateway].take();
        let Some(mut running) = taken else {
            return Ok(());
        };
        let others = self
            .living()
            .iter()
            .filter(|one| one.gateway != gateway)
            .copied()
            .collect();
        self.living.store(Arc::new(others));
        let from = Instant::now();
        running.process.kill()?;
        running.process.wait()?;
        let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        kills.push(Kill {
            gateway,
            from,
            dead: Instant::now(),
        });
        Ok(())
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
        let mut process = Command::new(&self.shunt)
            .arg("serve")
            .arg("--config")
            .arg(self.file(gateway, "toml"))
            .env("STORM_SECRET", &self.secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| self.shunt.display().to_string())?;
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
