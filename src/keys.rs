//! `shunt keys`: makes, lists and revokes the gateway's own keys.
//!
//! Promises: a key is printed once, when it is made, and kept as a hash. The gateway reads the file
//! at its start and at SIGHUP.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail, ensure};
use jiff::{SignedDuration, Timestamp};

use crate::auth;
use crate::auth::file::{Change, Entry, KeyFile};
use crate::config::Period;

/// What is to be done.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The key file that `auth.keys` of the configuration names.
    #[arg(long, global = true, default_value = "keys.toml")]
    file: PathBuf,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a key and print it, once.
    Create(New),
    /// List the keys: all but the keys themselves.
    List,
    /// Take a key away; it is refused once the gateway has reloaded.
    Revoke {
        /// Its name or its id.
        key: String,
    },
}

#[derive(clap::Args)]
struct New {
    /// How you call it; in log lines.
    #[arg(long)]
    name: String,
    /// A route that it may call, as a glob; may be given several times. Absent: each route.
    #[arg(long = "route", value_name = "GLOB")]
    routes: Vec<String>,
    /// Calls a second; absent: no limit.
    #[arg(long)]
    rate: Option<f64>,
    /// Calls at once out of that rate; absent: a second's worth.
    #[arg(long, requires = "rate")]
    burst: Option<u32>,
    /// Calls that may run at once; absent: no limit.
    #[arg(long)]
    concurrency: Option<usize>,
    /// Places at a full target, and jobs, that it gets where another key gets one: 1 to 100.
    #[arg(long)]
    share: Option<u32>,
    /// It expires after this, such as 2160h; absent: never.
    #[arg(long, value_name = "PERIOD")]
    expires_in: Option<Period>,
}

/// Does it and prints what came of it.
///
/// # Errors
/// A sentence.
pub fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.file;
    // Before it is read: what another one writes meanwhile would be lost.
    let changing = !matches!(arguments.command, Command::List);
    let change = changing.then(|| Change::begin(path));
    let change = change.transpose().map_err(|why| anyhow!(why))?;
    let save = |file: &KeyFile| match change {
        Some(change) => change.end(file).map_err(|why| anyhow!(why)),
        None => Ok(()),
    };
    let making = matches!(arguments.command, Command::Create(_));
    let mut file = if making && !path.exists() {
        KeyFile::default()
    } else {
        KeyFile::read(path).map_err(|why| anyhow!(why))?
    };
    let text = match &arguments.command {
        Command::List => list(&file),
        Command::Create(new) => {
            let key = create(&mut file, new)?;
            save(&file)?;
            let mut errors = std::io::stderr();
            writeln!(
                errors,
                "This key is shown once. It is known when the gateway is started or gets SIGHUP."
            )?;
            format!("{key}\n")
        }
        Command::Revoke { key } => {
            let before = file.keys.len();
            file.keys.retain(|one| one.name != *key && one.id != *key);
            if file.keys.len() == before {
                bail!("there is no key `{key}`; `shunt keys list` shows them");
            }
            save(&file)?;
            "revoked; send the gateway SIGHUP\n".to_owned()
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn create(file: &mut KeyFile, new: &New) -> Result<String> {
    let (key, mut entry) = auth::file::make(&new.name, Timestamp::now());
    entry.routes = (!new.routes.is_empty()).then(|| new.routes.clone());
    entry.rate = new.rate;
    entry.burst = new.burst;
    entry.concurrency = new.concurrency;
    entry.share = new.share;
    if let Some(period) = new.expires_in {
        ensure!(
            !period.get().is_zero(),
            "--expires-in 0s is over at once; leave it away for a key that does not expire"
        );
        let after = SignedDuration::try_from(period.get())?;
        entry.expires = Some((Timestamp::now() + after).to_string());
    }
    file.keys.push(entry);
    file.check().map_err(|why| anyhow!(why))?;
    Ok(key)
}

fn list(file: &KeyFile) -> String {
    let mut text = String::new();
    let row = |one: &Entry| {
        let or = |value: Option<String>, none: &str| value.unwrap_or_else(|| none.into());
        [
            one.id.clone(),
            one.name.clone(),
            or(one.routes.as_ref().map(|all| all.join(",")), "*"),
            or(one.rate.map(|rate| format!("{rate}/s")), "-"),
            or(one.concurrency.map(|most| most.to_string()), "-"),
            or(one.share.map(|share| share.to_string()), "1"),
            or(one.expires.clone(), "never"),
            one.created.clone(),
        ]
    };
    let head = [
        "ID",
        "NAME",
        "ROUTES",
        "RATE",
        "CONCURRENCY",
        "SHARE",
        "EXPIRES",
        "CREATED",
    ];
    let rows: Vec<[String; 8]> = std::iter::once(head.map(str::to_owned))
        .chain(file.keys.iter().map(row))
        .collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            let width = width(at).unwrap_or(0) + 2;
            let _ = write!(text, "{cell:width$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
