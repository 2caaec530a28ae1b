//! The stores that figures are measured on, and how they are filled.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use shunt::cold::job::{
    Callback, CallbackStatus, Job, JobId, Owner, Reason, Status, StoredRequest, UnixMillis,
};
use shunt::cold::store::SharedStore;
use shunt::cold::store::sqlite::SqliteStore;
use tokio::task::JoinSet;

use super::cluster::Cluster;

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Sqlite,
    Postgres,
}

impl fmt::Display for Stored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

impl Stored {
    /// Those that are asked for by `--sqlite` and `--postgres`; without either both.
    pub fn asked(arguments: &[String]) -> Vec<Self> {
        let named = |name: &str| arguments.iter().any(|one| one == name);
        let both = !named("--sqlite") && !named("--postgres");
        let mut asked = Vec::new();
        asked.extend((both || named("--sqlite")).then_some(Self::Sqlite));
        asked.extend((both || named("--postgres")).then_some(Self::Postgres));
        asked
    }

    /// A new cluster, where it needs one.
    pub fn cluster(self) -> Result<Option<Cluster>> {
        match self {
            Self::Sqlite => Ok(None),
            Self::Postgres => Cluster::start().map(Some),
        }
    }

    /// Puts so many jobs of a route into a store that no gateway has open.
    pub fn fill(
        self,
        url: &str,
        count: usize,
        route: &str,
        due: UnixMillis,
        hook: &str,
    ) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let store = self.open(url)?;
            let mut under = JoinSet::new();
            for _ in 0..count {
                let (store, job) = (store.clone(), job(route, due, hook));
                under.spawn(async move { store.insert(job, request()).await });
                if under.len() >= TOGETHER
                    && let Some(done) = under.join_next().await
                {
                    done??;
                }
            }
            while let Some(done) = under.join_next().await {
                done??;
            }
            anyhow::Ok(())
        })
    }

    fn open(self, url: &str) -> Result<SharedStore> {
        let path = url.trim_start_matches("sqlite:");
        ensure!(self == Self::Sqlite, "PostgreSQL is not there yet");
        Ok(Arc::new(SqliteStore::open(Path::new(path), u64::MAX)?))
    }
}

/// What `cold.store` says: the cluster, or a file in the folder.
pub fn url(cluster: Option<&Cluster>, folder: &Path) -> String {
    let file = || format!("sqlite:{}/jobs.db", folder.display());
    cluster.map_or_else(file, Cluster::url)
}

/// Jobs that are written at once, so that they share commits.
const TOGETHER: usize = 1_000;

fn job(route: &str, due: UnixMillis, hook: &str) -> Job {
    Job {
        id: JobId::random(),
        owner: Owner::ANYONE,
        status: Status::Queued,
        route: route.to_owned(),
        reason: Reason::Requested,
        budget_ms: 0,
        elapsed_ms: 0,
        created_at: due,
        expires_at: due.plus(Duration::from_hours(24)),
        finished_at: None,
        attempts: 0,
        fence: 0,
        error: None,
        callback: Some(Callback {
            url: hook.to_owned(),
            status: CallbackStatus::Pending,
            deliveries: 0,
            last_error: None,
        }),
        scope: None,
        background: None,
    }
}

fn request() -> StoredRequest {
    StoredRequest {
        method: "POST".into(),
        path_and_query: "/v1/chat/completions".into(),
        headers: vec![("content-type".into(), b"application/json".to_vec())],
        body: Bytes::from_static(br#"{"model":"m","messages":[]}"#),
    }
}
