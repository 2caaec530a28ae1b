//! A throw-away PostgreSQL cluster on loopback, from the packages that the system has.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// A running cluster; dropping it kills it and takes its files away.
pub struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
    /// Whose processes it has: PostgreSQL refuses to be root's.
    user: Option<(u32, u32)>,
    port: u16,
    server: Option<Child>,
}

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

impl Cluster {
    /// Makes one and starts it, with the settings that its makers ship: every commit is on disk.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let user = user()?;
        if let Some((owner, group)) = user {
            std::os::unix::fs::chown(folder.path(), Some(owner), Some(group))?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut cluster = Self {
            folder,
            programs: programs()?,
            user,
            port,
            server: None,
        };
        let data = cluster.data();
        let mut initdb = cluster.command("initdb");
        initdb.args(["--auth=trust", "--username=shunt", "--encoding=UTF8"]);
        let made = initdb.arg("-D").arg(data).output().context("initdb")?;
        ensure!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        cluster.run()?;
        Ok(cluster)
    }

    /// What a gateway's `cold.store` says.
    pub fn url(&self) -> String {
        format!("postgres://shunt@127.0.0.1:{}/postgres", self.port)
    }

    /// One statement's rows as text, columns divided by `|`.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub fn query(&self, statement: &str) -> Result<Vec<String>> {
        let told = self
            .command("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                statement,
            ])
            .env("PGOPTIONS", "-c search_path=shunt,public")
            .arg(self.url())
            .output()?;
        ensure!(
            told.status.success(),
            "psql: {}",
            String::from_utf8_lossy(&told.stderr)
        );
        let told = String::from_utf8(told.stdout)?;
        Ok(told.lines().map(str::to_owned).collect())
    }

    /// Sends every process of it a signal.
    ///
    /// # Errors
    /// There is no program `kill`.
    pub fn tell(&self, signal: &str) -> Result<()> {
        let Some(server) = &self.server else {
            return Ok(());
        };
        let mut all = children(server.id());
        all.push(server.id());
        let pids = all.iter().map(u32::to_string);
        // One that ended by itself meanwhile is none the less told.
        Command::new("kill").arg(signal).args(pids).output()?;
        Ok(())
    }

    /// Kills every process of it with -9, as if the machine had lost its power.
    pub fn kill(&mut self) -> Result<()> {
        self.tell("-KILL")?;
        if let Some(mut server) = self.server.take() {
            server.wait()?;
        }
        Ok(())
    }

    /// Starts it, again and again until it answers: what was killed may linger for a moment.
    pub fn run(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(mut ended) = self.server.take() {
                ended.wait()?;
            }
            let mut server = self.spawn()?;
            while server.try_wait()?.is_none() && Instant::now() < until {
                if self.query("select 1").is_ok() {
                    self.server = Some(server);
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            self.server = Some(server);
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        bail!("PostgreSQL does not start: {log}")
    }

    fn spawn(&self) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))?;
        let port = format!("port={}", self.port);
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data());
        for setting in [
            "listen_addresses=127.0.0.1",
            "max_connections=200",
            &port,
            &sockets,
        ] {
            server.args(["-c", setting]);
        }
        server.stdout(Stdio::null()).stderr(log);
        server.spawn().context("postgres")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Where `initdb` and `postgres` are: the newest of Debian's packages, or somewhere on the path.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let found = versions
        .into_iter()
        .flatten()
        .filter_map(|one| Some(one.ok()?.path().join("bin")))
        .filter(|folder| folder.join("initdb").exists())
        .max_by_key(|folder| version(folder));
    let path = std::env::var_os("PATH").unwrap_or_default();
    found
        .or_else(|| std::env::split_paths(&path).find(|one| one.join("initdb").exists()))
        .context("PostgreSQL is missing; install the Debian package postgresql")
}

fn version(folder: &Path) -> u32 {
    let name = folder.parent().and_then(Path::file_name);
    let name = name.and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).unwrap_or(0)
}

/// The user `postgres`, or `nobody`, where this process is root's.
fn user() -> Result<Option<(u32, u32)>> {
    let number = |arguments: &[&str]| {
        let told = Command::new("id").args(arguments).output()?;
        let told = String::from_utf8(told.stdout)?;
        told.trim().parse::<u32>().context("id tells no number")
    };
    if number(&["-u"])? != 0 {
        return Ok(None);
    }
    let found = ["postgres", "nobody"]
        .iter()
        .find_map(|name| Some((number(&["-u", name]).ok()?, number(&["-g", name]).ok()?)));
    found.map(Some).context("there is no user for PostgreSQL")
}

/// Processes that another began.
fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name stands in brackets and can hold anything; the parent is the second word after.
        let (_, rest) = stat.rsplit_once(')')?;
        let of: u32 = rest.split_whitespace().nth(1)?.parse().ok()?;
        (of == parent).then_some(())?;
        entry.file_name().to_str()?.parse().ok()
    })
    .collect()
}
