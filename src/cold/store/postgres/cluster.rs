//! A throw-away PostgreSQL for tests, from Debian's packages.
//!
//! Promises: one cluster a test process, one database a test; it dies with the test process, even
//! when that is killed; where PostgreSQL is missing the tests fail and say which package has it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The system's user that the server runs as where the tests run as root, which it refuses.
const USER: &str = "postgres";

/// The server's own; on a socket it is part of a name.
const PORT: u16 = 5432;

/// A cluster: a server on a socket in a folder of its own.
pub struct Cluster {
    folder: PathBuf,
    server: Option<Child>,
    watcher: Child,
    bin: PathBuf,
    databases: AtomicUsize,
    port: u16,
}

/// This test process's cluster, for tests that do not stop it. It has no fsync.
pub fn shared() -> &'static Cluster {
    static SHARED: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(false));
    &SHARED
}

/// Where Debian or the path has the server's programs.
fn bin() -> PathBuf {
    let named = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&named).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut versions: Vec<PathBuf> = versions
        .flatten()
        .map(|one| one.path().join("bin"))
        .collect();
    versions.sort();
    folders.splice(0..0, versions.into_iter().rev());
    let found = folders
        .into_iter()
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    found.expect("initdb is missing; install the Debian package postgresql")
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|about| {
        use std::os::unix::fs::MetadataExt;
        about.uid() == 0
    })
}

/// A command that runs as somebody who is not root.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]);
        command.arg(program);
    }
    command.stdin(Stdio::null());
    command
}

/// Gives a file or folder to the server's user.
fn give(path: &Path) {
    if is_root() {
        let owned = Command::new("chown").arg(USER).arg(path).status();
        let done = owned.expect("chown runs").success();
        assert!(done, "the user {USER} is missing");
    }
}

/// Waits for the end of its input, which comes with the end of this process however it ends; then
/// stops the server and takes its folder away.
const WATCH: &str = r#"trap '' INT TERM HUP; read -r _
    server=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$server"
    for _ in $(seq 100); do
        [ -e "$1/data/postmaster.pid" ] && kill -0 "$server" 2>/dev/null || break; sleep 0.05
    done
    rm -rf "$1""#;

impl Cluster {
    /// Makes a cluster and starts its server.
    pub fn start(fsync: bool) -> Self {
        let mut cluster = Self::make(fsync, "");
        cluster.serve();
        cluster
    }

    /// Makes a cluster that also listens on this port of the loopback, with TLS.
    pub fn with_tls(port: u16, cert: &str, key: &str) -> Self {
        let more = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\n\
             ssl_cert_file = 'cert.pem'\nssl_key_file = 'key.pem'\n"
        );
        let mut cluster = Self::make(false, &more);
        cluster.port = port;
        for (name, text) in [("cert.pem", cert), ("key.pem", key)] {
            use std::os::unix::fs::PermissionsExt;
            let path = cluster.folder.join("data").join(name);
            std::fs::write(&path, text).expect("the cluster's folder can be written");
            let only_owner = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, only_owner).expect("it is ours");
            give(&path);
        }
        cluster.serve();
        cluster
    }

    fn make(fsync: bool, more: &str) -> Self {
        let name = format!(
            "shunt-pg-{}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        give(&folder);
        let watcher = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let bin = bin();
        let made = as_user(&bin.join("initdb"))
            .args(["-U", "shunt", "-A", "trust", "-E", "UTF8"])
            .args(["--no-locale", "-N", "-D"])
            .arg(folder.join("data"))
            .output()
            .expect("setpriv (util-linux) runs");
        let why = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {why}");
        let mut settings = format!(
            "listen_addresses = ''\nmax_connections = 400\nshared_buffers = '64MB'\n\
             unix_socket_directories = '{}'\n",
            folder.display()
        );
        if !fsync {
            settings += "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";
        }
        // What stands later holds.
        settings += more;
        let path = folder.join("data/postgresql.auto.conf");
        std::fs::write(path, settings).expect("the cluster's folder can be written");
        Self {
            folder,
            server: None,
            watcher,
            bin,
            databases: AtomicUsize::new(0),
            port: PORT,
        }
    }

    /// Starts the server; it accepts when this returns.
    pub fn serve(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).expect("a log");
        let mut command = as_user(&self.bin.join("postgres"));
        command.arg("-D").arg(self.folder.join("data"));
        command.stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().expect("postgres runs"));
        let began = Instant::now();
        while !self.try_sql("postgres", "select 1") {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(
                began.elapsed() < Duration::from_mins(1),
                "it does not start: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server at once, as a crash would.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        // SIGQUIT: every process of it ends without a word, and the next start recovers.
        let quit = Command::new("kill")
            .arg("-QUIT")
            .arg(server.id().to_string())
            .status();
        assert!(quit.is_ok_and(|one| one.success()));
        server.wait().expect("it can be waited for");
    }

    fn try_sql(&self, database: &str, sql: &str) -> bool {
        self.psql(database, sql).is_some()
    }

    fn psql(&self, database: &str, sql: &str) -> Option<String> {
        let done = Command::new(self.bin.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "shunt",
                "-h",
            ])
            .arg(&self.folder)
            .args(["-p", &self.port.to_string()])
            .args(["-d", database, "-c", sql])
            .output()
            .expect("psql runs");
        let found = String::from_utf8_lossy(&done.stdout).into_owned();
        done.status.success().then_some(found)
    }

    /// What a statement gives, a line a row.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.psql(database, sql).expect("the statement is right")
    }

    /// Whether any of its files holds these bytes.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for one in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = one.path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(&path)
                    .is_ok_and(|found| memchr::memmem::find(&found, bytes).is_some())
                {
                    return true;
                }
            }
        }
        false
    }

    /// A new, empty database.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name}"));
        name
    }

    /// Its address.
    pub fn address(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://shunt@{folder}/{database}")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}
