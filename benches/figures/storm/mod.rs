//! Gateways that are killed, a store that is killed or full, under load at a constant rate: every
//! 202 is kept.

mod callers;
mod disk;
mod house;
mod ledger;
mod provider;
mod receiver;
mod settle;
mod troubles;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use clap::Parser as _;
use tokio::task::JoinSet;

use self::callers::{Kind, Sent, What, arrive};
use self::disk::Disk;
use self::house::{House, Plan};
use self::ledger::Report;
pub use self::provider::{Calls, start as provide};
use self::receiver::Receiver;
use self::troubles::{Targets, Told, Trouble, make, plan};
use crate::cluster::Cluster;

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
        let by_trouble = if self.full_disk { Kept::Sqlite } else { Kept::Postgres };
        self.store.unwrap_or(by_trouble)
    }

    fn pick(&self, given: Option<u32>, whole: u32, quick: u32) -> u32 {
        given.unwrap_or(if self.quick { quick } else { whole }).max(1)
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

/// What was seen from outside.
struct Outcome {
    cold: Vec<Sent>,
    hot: Vec<Sent>,
    told: Vec<Told>,
    settled: Duration,
    found: std::collections::HashMap<u32, settle::Found>,
}

pub fn run(arguments: &[String]) -> Result<()> {
    let options = Options::try_parse_from(arguments)?;
    ensure!(
        options.kept() == Kept::Postgres || !options.kill_postgres,
        "--kill-postgres needs --store postgres"
    );
    ensure!(
        options.kept() == Kept::Sqlite || !options.full_disk,
        "--full-disk needs --store sqlite"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let cluster = match options.kept() {
        Kept::Postgres => Some(Cluster::start()?),
        Kept::Sqlite => None,
    };
    let disk = options.full_disk.then(|| Disk::mount(ROOM)).transpose()?;
    let folder = tempfile::tempdir()?;
    let file = disk.as_ref().map_or(folder.path(), Disk::path).join("jobs.db");
    let store = match &cluster {
        Some(cluster) => cluster.url(),
        None => format!("sqlite:{}", file.display()),
    };
    let secret = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 32]>());
    let secret = format!("whsec_{secret}");
    let (calls, receiver) = (Calls::default(), Receiver::new(&secret)?);
    let mut tasks = JoinSet::new();
    let gateways = if cluster.is_some() { 3 } else { 1 };
    let (providers, hook) = runtime.block_on(async {
        let providers = provider::start(gateways, &calls, &mut tasks).await?;
        anyhow::Ok((providers, receiver.start(&mut tasks).await?))
    })?;
    let plan = Plan {
        folder: folder.path(),
        shunt: shunt(),
        store: &store,
        secret: &secret,
        receiver: hook,
    };
    let house = Arc::new(House::start(plan, &providers)?);
    let mut targets = Targets {
        house: house.clone(),
        cluster,
        disk,
    };
    let outcome = storm(&options, &runtime, &mut targets, &receiver, hook)?;
    let mut report = Report::default();
    tell(&mut report, &options, &house, &outcome);
    ledger::calls(&mut report, &outcome.cold, &calls.all(), &house.kills());
    ledger::callbacks(&mut report, &outcome.cold, &receiver.arrived(), &outcome.found);
    database(&mut report, targets.cluster.as_ref(), &file)?;
    for line in &report.lines {
        println!("storm: {line}");
    }
    if report.broken.is_empty() {
        println!("storm: every promise was kept");
        return Ok(());
    }
    for gateway in 0..providers.len() {
        eprintln!("the end of gateway {gateway}'s log:\n{}", house.log(gateway));
    }
    bail!("broken promises:\n  {}", report.broken.join("\n  "))
}

/// The gateway under test: the one named by `SHUNT`, or the one built with this program.
fn shunt() -> PathBuf {
    let named = std::env::var_os("SHUNT").map(PathBuf::from);
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_shunt").into())
}

fn storm(
    options: &Options,
    runtime: &tokio::runtime::Runtime,
    targets: &mut Targets,
    receiver: &Receiver,
    hook: std::net::SocketAddr,
) -> Result<Outcome> {
    let seconds = options.pick(options.seconds, 120, 12);
    let rate = options.pick(options.rate, 300, 50);
    let every = Duration::from_secs(options.pick(options.every, 10, 3).into());
    let house = targets.house.clone();
    let gateways = house.living().len();
    let troubles = plan(gateways, every, seconds, options.trouble());
    let cold = runtime.spawn(arrive(Kind::Cold { hook }, rate, seconds, house.clone()));
    let hot = runtime.spawn(arrive(Kind::Hot, rate.div_ceil(6), seconds, house.clone()));
    let told = make(&troubles, targets)?;
    runtime.block_on(async {
        let (cold, hot) = (cold.await??, hot.await??);
        let settled = settle::wait(&cold, receiver, SETTLE).await;
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

fn tell(report: &mut Report, options: &Options, house: &House, outcome: &Outcome) {
    let mut answers: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for one in &outcome.cold {
        let name = match &one.what {
            What::Accepted(_) => "202".to_owned(),
            What::Answered(status) => status.to_string(),
            other => format!("{other:?}").to_lowercase(),
        };
        *answers.entry(name).or_default() += 1;
    }
    report.say(format!(
        "{:?}, {} demotions asked for, {} kills of a gateway: {answers:?}",
        options.kept(),
        outcome.cold.len(),
        house.kills().len(),
    ));
    let late = outcome.cold.iter().filter_map(|one| match one.what {
        What::Accepted(_) => Some((one.ended - one.due).as_secs_f64() - one.budget.as_secs_f64()),
        _ => None,
    });
    report.say(ledger::spread("202s came after their budget by", late.collect()));
    ledger::jobs(report, &outcome.cold, &outcome.found);
    report.say(format!(
        "the last job ended {:.1} s after the load",
        outcome.settled.as_secs_f64()
    ));
    ledger::hot(report, &outcome.hot, &house.kills());
    for told in &outcome.told {
        let seconds = |time: Option<Duration>| {
            time.map_or("never".into(), |time| format!("after {:.2} s", time.as_secs_f64()))
        };
        report.say(format!(
            "{:?}: /readyz said 503 {} ({}), and 200 again {} of its end",
            told.trouble,
            seconds(told.unready_after),
            told.words,
            seconds(told.ready_after)
        ));
        if told.unready_after.is_none() || told.ready_after.is_none() {
            report.broken.push("/readyz tells of a store that cannot be written".into());
        }
    }
}

/// What the store itself says.
fn database(report: &mut Report, cluster: Option<&Cluster>, file: &std::path::Path) -> Result<()> {
    let statement = "select (select count(*) from jobs), \
        (select count(*) from jobs where finished_at is null), \
        (select count(*) from answers), (select count(distinct job_id) from answers), \
        (select count(*) from deliveries), (select count(distinct job_id) from deliveries), \
        (select count(distinct webhook_id) from deliveries)";
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
    must(deliveries == told && told == ids, "one callback and one id per job in the store");
    Ok(())
}
