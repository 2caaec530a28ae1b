//! Gateways that are killed, a store that is killed or full, under load at a constant rate: every
//! 202 is kept.

mod callers;
pub mod disk;
pub mod house;
mod ledger;
mod provider;
pub mod receiver;
mod settle;
mod troubles;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use clap::Parser as _;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub use self::callers::{CALLER, Connections};
use self::callers::{Kind, Sent, What, arrive};
use self::disk::Disk;
use self::house::{House, Plan};
use self::ledger::Patience;
pub use self::ledger::{Report, spread};
pub use self::provider::{Calls, EVENTS, TAG, TAKES, start as provide};
use self::receiver::Receiver;
use self::troubles::{Targets, Told, Trouble, make, plan};
use crate::cluster::Cluster;
use crate::stored::url;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kept {
    Postgres,
    Sqlite,
}

/// Options of `loadtest/run storm`.
#[derive(Clone, Debug, clap::Parser)]
#[command(no_binary_name = true, name = "loadtest/run storm")]
struct Options {
    /// Where the gateways keep their jobs: three gateways on one PostgreSQL, or one on a file.
    #[arg(long, value_enum)]
    store: Option<Kept>,
    /// Kill PostgreSQL twice, too.
    #[arg(long)]
    kill_postgres: bool,
    /// Fill the disk of a gateway with a file for a while, too.
    #[arg(long)]
    full_disk: bool,
    /// How long the load goes on; 120, or 12 with `--quick`.
    #[arg(long)]
    seconds: Option<u32>,
    /// Demotions a second; 300, or 50 with `--quick`.
    #[arg(long)]
    rate: Option<u32>,
    /// Seconds between two kills of a gateway; 10, or 3 with `--quick`.
    #[arg(long)]
    every: Option<u32>,
    /// A short run for the tests.
    #[arg(long)]
    quick: bool,
}

impl Options {
    fn kept(&self) -> Kept {
        let by_trouble = if self.full_disk {
            Kept::Sqlite
        } else {
            Kept::Postgres
        };
        self.store.unwrap_or(by_trouble)
    }

    /// # Errors
    /// Trouble for a store that is not there.
    fn check(&self) -> Result<()> {
        ensure!(
            self.kept() == Kept::Postgres || !self.kill_postgres,
            "--kill-postgres needs --store postgres"
        );
        ensure!(
            self.kept() == Kept::Sqlite || !self.full_disk,
            "--full-disk needs --store sqlite"
        );
        Ok(())
    }

    fn gateways(&self) -> usize {
        match self.kept() {
            Kept::Postgres => 3,
            Kept::Sqlite => 1,
        }
    }

    /// Seconds of load, demotions a second, seconds between two kills.
    fn measures(&self) -> (u32, u32, u32) {
        (
            self.pick(self.seconds, 120, 12),
            self.pick(self.rate, 300, 50),
            self.pick(self.every, 10, 3),
        )
    }

    /// Seconds between two heartbeats of a gateway.
    fn heartbeat(&self) -> u32 {
        if self.quick { 2 } else { 5 }
    }

    /// How long a dead gateway's jobs may lie: two heartbeats, and each time that the store is away
    /// besides, that, its start and a lease from then on.
    fn patience(&self) -> Patience {
        let heartbeat = Duration::from_secs(self.heartbeat().into());
        let away = match self.trouble() {
            Some(Trouble::Postgres(rest) | Trouble::FullDisk(rest)) => rest,
            _ => Duration::ZERO,
        };
        let twice = self.trouble().map_or(0, |_| 2);
        Patience {
            rescue: heartbeat * 2 + (away + heartbeat * 2) * twice,
            unstored: Duration::from_secs(2) + away + heartbeat,
        }
    }

    fn pick(&self, given: Option<u32>, whole: u32, quick: u32) -> u32 {
        given
            .unwrap_or(if self.quick { quick } else { whole })
            .max(1)
    }

    fn trouble(&self) -> Option<Trouble> {
        let rest = Duration::from_secs(if self.quick { 2 } else { 5 });
        match (self.kill_postgres, self.full_disk) {
            (true, _) => Some(Trouble::Postgres(rest)),
            (_, true) => Some(Trouble::FullDisk(rest)),
            _ => None,
        }
    }
}

/// How long jobs may take to end after the load.
const SETTLE: Duration = Duration::from_secs(90);

/// MiB of the disk that is filled.
const ROOM: u32 = 512;

/// A storm that has not begun.
struct Storm {
    options: Options,
    runtime: Runtime,
    targets: Targets,
    calls: Calls,
    receiver: Receiver,
    /// Where the receiver listens.
    hook: SocketAddr,
    /// The store, where it is a file.
    file: PathBuf,
    /// The gateways' files, and providers and receiver.
    _kept: (tempfile::TempDir, JoinSet<()>),
}

/// What was seen from outside.
struct Outcome {
    cold: Vec<Sent>,
    hot: Vec<Sent>,
    told: Vec<Told>,
    settled: Duration,
    found: HashMap<u32, settle::Found>,
}

pub fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse_from(arguments);
    options.check()?;
    let mut storm = Storm::prepare(options)?;
    let outcome = storm.rage()?;
    let report = storm.judge(&outcome)?;
    for line in &report.lines {
        println!("storm: {line}");
    }
    if report.broken.is_empty() {
        println!("storm: every promise was kept");
        return Ok(());
    }
    for gateway in 0..storm.options.gateways() {
        let log = storm.targets.house.log(gateway);
        eprintln!("the end of gateway {gateway}'s log:\n{log}");
    }
    bail!("broken promises:\n  {}", report.broken.join("\n  "))
}

/// The gateway under test: the one named by `SHUNT`, or the one built with this program.
pub fn shunt() -> PathBuf {
    let named = std::env::var_os("SHUNT").map(PathBuf::from);
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_shunt").into())
}

impl Storm {
    /// Starts everything but the load.
    fn prepare(options: Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let disk = options.full_disk.then(|| Disk::mount(ROOM)).transpose()?;
        let cluster = (options.kept() == Kept::Postgres).then(Cluster::start);
        let cluster = cluster.transpose()?;
        let folder = tempfile::tempdir()?;
        let place = disk.as_ref().map_or(folder.path(), Disk::path);
        let store = url(cluster.as_ref(), place);
        let file = place.join("jobs.db");
        let secret = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 32]>());
        let secret = format!("whsec_{secret}");
        let (calls, receiver) = (Calls::default(), Receiver::new(&secret)?);
        let mut tasks = JoinSet::new();
        let (providers, hook) = runtime.block_on(async {
            let providers = provide(options.gateways(), &calls, &mut tasks).await?;
            anyhow::Ok((providers, receiver.start(&mut tasks).await?))
        })?;
        let plan = Plan {
            folder: folder.path(),
            shunt: shunt(),
            store: &store,
            secret: &secret,
            receiver: hook,
            heartbeat: options.heartbeat(),
        };
        let house = Arc::new(House::start(&plan, &providers)?);
        Ok(Self {
            options,
            runtime,
            targets: Targets {
                house,
                cluster,
                disk,
            },
            calls,
            receiver,
            hook,
            file,
            _kept: (folder, tasks),
        })
    }

    /// The load and the troubles, and then every job is asked for.
    fn rage(&mut self) -> Result<Outcome> {
        let (seconds, rate, every) = self.options.measures();
        let house = self.targets.house.clone();
        let gateways = self.options.gateways();
        let troubles = plan(gateways, every, seconds, self.options.trouble());
        let hook = self.hook;
        let load = |kind, rate| {
            self.runtime
                .spawn(arrive(kind, rate, seconds, house.clone()))
        };
        let cold = load(Kind::Cold { hook }, rate);
        let hot = load(Kind::Hot, rate.div_ceil(6));
        let told = make(&troubles, &mut self.targets)?;
        self.runtime.block_on(async {
            let (cold, hot) = (cold.await??, hot.await??);
            let settled = settle::wait(&cold, &self.receiver, SETTLE).await;
            let found = settle::ask(&cold, &house).await?;
            anyhow::Ok(Outcome {
                cold,
                hot,
                told,
                settled,
                found,
            })
        })
    }

    /// Holds what was seen against what is promised.
    fn judge(&self, outcome: &Outcome) -> Result<Report> {
        let mut report = Report::default();
        let kills = self.targets.house.kills();
        let cold = &outcome.cold;
        tell(&mut report, self.options.kept(), kills.len(), cold);
        ledger::jobs(&mut report, cold, &outcome.found);
        report.say(format!(
            "the last was called back {:.1} s after the load",
            outcome.settled.as_secs_f64()
        ));
        let patience = self.options.patience();
        ledger::calls(&mut report, cold, &self.calls.all(), &kills, patience);
        let arrived = self.receiver.arrived();
        ledger::callbacks(&mut report, cold, &arrived, &outcome.found);
        database(&mut report, self.targets.cluster.as_ref(), &self.file)?;
        ledger::hot(&mut report, &outcome.hot, &kills);
        ready(&mut report, &outcome.told);
        Ok(report)
    }
}

/// What the callers were answered, and when.
fn tell(report: &mut Report, kept: Kept, kills: usize, cold: &[Sent]) {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for one in cold {
        let name = match &one.what {
            What::Accepted(_) => "202".to_owned(),
            What::Answered(status) => status.to_string(),
            other => format!("{other:?}").to_lowercase(),
        };
        *answers.entry(name).or_default() += 1;
    }
    report.say(format!(
        "{kept:?}, {} demotions asked for, {kills} kills of a gateway: {answers:?}",
        cold.len(),
    ));
    let late = cold.iter().filter_map(|one| match one.what {
        What::Accepted(_) => Some((one.ended - one.due).as_secs_f64() - one.budget.as_secs_f64()),
        _ => None,
    });
    report.say(ledger::spread(
        "202s came after their budget by",
        late.collect(),
    ));
}

/// What `/readyz` told of the store's troubles.
fn ready(report: &mut Report, told: &[Told]) {
    for told in told {
        let seconds = |time: Option<Duration>| {
            time.map_or("never".into(), |time| {
                format!("after {:.2} s", time.as_secs_f64())
            })
        };
        report.say(format!(
            "{:?}: /readyz said 503 {} ({}), and 200 {} of its end",
            told.trouble,
            seconds(told.unready_after),
            told.words,
            seconds(told.ready_after)
        ));
        if told.unready_after.is_none() || told.ready_after.is_none() {
            let promise = "/readyz tells of a store that cannot be written, and of its recovery";
            report.broken.push(promise.into());
        }
    }
}

/// What the store itself says.
fn database(report: &mut Report, cluster: Option<&Cluster>, file: &Path) -> Result<()> {
    let job = cluster.map_or("job", |_| "job_id");
    let statement = &format!(
        "select (select count(*) from jobs), \
         (select count(*) from jobs where finished_at is null), \
         (select count(*) from answers), (select count(distinct {job}) from answers), \
         (select count(*) from deliveries), (select count(distinct {job}) from deliveries), \
         (select count(distinct webhook_id) from deliveries)"
    );
    let counts: Vec<i64> = if let Some(cluster) = cluster {
        let rows = cluster.query(statement)?;
        let row = rows.first().context("no row")?;
        row.split('|').map(str::parse).collect::<Result<_, _>>()?
    } else {
        let connection = rusqlite::Connection::open(file)?;
        connection.query_row(statement, [], |row| (0..7).map(|at| row.get(at)).collect())?
    };
    let [jobs, unfinished, answers, answered, deliveries, told, ids] = counts[..] else {
        bail!("the store counts otherwise");
    };
    report.say(format!(
        "in the store: {jobs} jobs, {unfinished} unfinished, {answers} answers of {answered} jobs, \
         {deliveries} callbacks of {told} jobs under {ids} ids"
    ));
    let mut must = |holds: bool, promise: &str| {
        if !holds {
            report.broken.push(promise.to_owned());
        }
    };
    must(unfinished == 0, "no job is left unfinished in the store");
    must(answers == answered, "no result is stored twice");
    must(
        deliveries == told && told == ids,
        "one callback and one id per job in the store",
    );
    Ok(())
}
