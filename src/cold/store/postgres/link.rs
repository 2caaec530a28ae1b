//! A connection to PostgreSQL that is made anew when it was lost.
//!
//! Promises: every statement ends within a bound; a connection that did not answer is closed, not
//! used again; after a failure nobody tries again before a back-off has passed, and who asks
//! meanwhile is told the reason. Many ask over one connection at once (it pipelines). No password
//! stands in what it tells.

use std::error::Error as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode as Negotiated;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, Row, Socket};
use tokio_util::sync::CancellationToken;

use super::tls::{Encrypted, Tls};
use crate::cold::store::StoreError;
use crate::config::{PostgresAddress, Secret, SslMode};
use crate::tasks::Tasks;

/// First and longest wait between two attempts to connect.
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The server's own limit on a statement comes first; this much later the connection is given up.
const GRACE: Duration = Duration::from_secs(2);

/// How many times as long a statement may take that carries large bodies.
const LONG: u32 = 6;

/// Why a statement was not done.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It cannot be done: another try is refused too.
    Refused(StoreError),
    /// It met others (a deadlock); another try may go.
    Again(StoreError),
    /// There is no connection; nothing was sent.
    Unsent(StoreError),
    /// The connection was lost in the midst: it is done or not.
    Doubtful(StoreError),
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(why) | Fault::Again(why) | Fault::Unsent(why) | Fault::Doubtful(why) => {
                why
            }
        }
    }
}

/// A statement's value and its type.
pub(super) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// What every connection of a store is made from.
pub(super) struct Ground {
    config: tokio_postgres::Config,
    tls: Tls,
    connect: Duration,
    statement: Duration,
    tasks: Tasks,
    /// Where connections live, whichever thread asks for them.
    runtime: Handle,
    /// Where it is, for people.
    told: String,
}

/// Where an address points, for people: hosts and database.
fn told(config: &tokio_postgres::Config) -> String {
    use tokio_postgres::config::Host;
    let host = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    };
    let hosts: Vec<_> = config.get_hosts().iter().map(host).collect();
    let database = config.get_dbname().unwrap_or_default();
    format!("PostgreSQL at {}/{database}", hosts.join(","))
}

impl Ground {
    /// From an address; connections live on this runtime, as tasks of this owner.
    pub fn new(
        address: &PostgresAddress,
        password: Option<&Secret>,
        (connect, statement): (Duration, Duration),
        tasks: Tasks,
    ) -> Result<Self, StoreError> {
        let mut config = address.config.clone();
        let told = told(&config);
        if let Some(password) = password {
            config.password(password.expose());
        }
        config
            .application_name("shunt")
            .connect_timeout(connect)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(10))
            .ssl_mode(match address.tls {
                SslMode::Disable => Negotiated::Disable,
                SslMode::Prefer => Negotiated::Prefer,
                SslMode::Verify => Negotiated::Require,
            });
        let tls = Tls::of(address)
            .map_err(|why| StoreError::Unavailable(format!("cold.store: sslrootcert: {why}")))?;
        Ok(Self {
            config,
            tls,
            connect,
            statement,
            tasks,
            runtime: Handle::current(),
            told,
        })
    }

    /// Runs a task where connections live.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let _inside = self.runtime.enter();
        self.tasks.spawn(task);
    }

    /// How long a statement that carries little may take.
    pub fn statement(&self) -> Duration {
        self.statement
    }

    fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable(format!("{}: {why}", self.told))
    }

    fn tells(&self, error: &tokio_postgres::Error) -> StoreError {
        // What a server adds as detail can quote rows.
        let why = match (error.as_db_error(), error.source()) {
            (Some(told), _) => told.message().to_owned(),
            (None, Some(source)) => format!("{error} ({source})"),
            (None, None) => error.to_string(),
        };
        self.unavailable(&why)
    }

    /// Why there is no connection; a wrong password or database is not mended by another try.
    fn refusal(&self, error: &tokio_postgres::Error) -> Fault {
        let class = error
            .code()
            .map(|code| code.code().get(..2).unwrap_or_default());
        match class {
            Some("28" | "3D") => Fault::Refused(self.tells(error)),
            _ => Fault::Unsent(self.tells(error)),
        }
    }

    /// Connects, for statements that may take so long. `heard`: who gets the payloads of
    /// notifications.
    pub async fn connect(
        self: &Arc<Self>,
        limit: Duration,
        heard: Option<mpsc::Sender<String>>,
    ) -> Result<Arc<Session>, Fault> {
        let (reply, answer) = oneshot::channel();
        let ground = self.clone();
        self.spawn(async move {
            let opened = timeout(ground.connect, ground.open(limit, heard)).await;
            let silent = || Err(Fault::Unsent(ground.unavailable("did not answer in time")));
            let _ = reply.send(opened.unwrap_or_else(|_| silent()));
        });
        let closed = || Fault::Refused(StoreError::Unavailable("the store is closed".into()));
        answer.await.map_err(|_| closed())?.map(Arc::new)
    }

    async fn open(
        self: &Arc<Self>,
        limit: Duration,
        heard: Option<mpsc::Sender<String>>,
    ) -> Result<Session, Fault> {
        let opened = self.config.connect(self.tls.clone()).await;
        let (client, connection) = opened.map_err(|error| self.refusal(&error))?;
        let cut = CancellationToken::new();
        let ended = cut.clone();
        self.spawn(async move {
            ended.run_until_cancelled(drive(connection, heard)).await;
        });
        let millis = limit.as_millis();
        let bounds = format!(
            "set statement_timeout = {millis}; set idle_in_transaction_session_timeout = {millis}"
        );
        // A pooler or another system may not have them; the client's own limit stands.
        let _ = client.batch_execute(&bounds).await;
        Ok(Session {
            client,
            cut,
            limit,
            ground: self.clone(),
        })
    }
}

/// Drives a connection until it is closed.
async fn drive(
    mut connection: Connection<Socket, Encrypted<Socket>>,
    heard: Option<mpsc::Sender<String>>,
) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(one), Some(heard)) = (message, &heard)
            && heard.send(one.payload().to_owned()).await.is_err()
        {
            return;
        }
    }
}

/// An open connection.
pub(super) struct Session {
    client: Client,
    cut: CancellationToken,
    limit: Duration,
    ground: Arc<Ground>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl Session {
    /// Whether it can still be used.
    pub fn is_open(&self) -> bool {
        !self.client.is_closed() && !self.cut.is_cancelled()
    }

    /// Runs a statement.
    pub async fn ask(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        self.within(self.client.query_typed(sql, values)).await
    }

    /// Runs statements without values.
    pub async fn tell(&self, sql: &str) -> Result<(), Fault> {
        self.within(self.client.batch_execute(sql)).await
    }

    async fn within<T>(
        &self,
        doing: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        match timeout(self.limit + GRACE, doing).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.fault(&error)),
            Err(_) => {
                self.cut.cancel();
                let why = self.ground.unavailable("did not answer in time");
                Err(Fault::Doubtful(why))
            }
        }
    }

    fn fault(&self, error: &tokio_postgres::Error) -> Fault {
        let why = self.ground.tells(error);
        let Some(code) = error.code() else {
            self.cut.cancel();
            return Fault::Doubtful(why);
        };
        let met = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
        ];
        if met.contains(code) {
            return Fault::Again(why);
        }
        // A server that was demoted: the next connection finds the one that can be written.
        if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            self.cut.cancel();
            return Fault::Unsent(why);
        }
        let leaves = code.code().starts_with("08") || code.code().starts_with("57P");
        if leaves {
            self.cut.cancel();
            return Fault::Doubtful(why);
        }
        Fault::Refused(why)
    }
}

/// A connection that is made when it is needed.
pub(super) struct Link {
    ground: Arc<Ground>,
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    failures: u32,
    failed: Option<(Instant, StoreError)>,
}

impl Link {
    /// One that is not made yet, for statements that carry little.
    pub fn short(ground: &Arc<Ground>) -> Self {
        Self::new(ground, 1)
    }

    /// One for statements that may carry much.
    pub fn long(ground: &Arc<Ground>) -> Self {
        Self::new(ground, LONG)
    }

    fn new(ground: &Arc<Ground>, times: u32) -> Self {
        Self {
            ground: ground.clone(),
            limit: ground.statement.saturating_mul(times),
            state: Mutex::default(),
        }
    }

    /// The open connection, or a new one.
    pub async fn session(&self) -> Result<Arc<Session>, Fault> {
        let mut state = self.state.lock().await;
        if let Some(session) = state.session.as_ref().filter(|one| one.is_open()) {
            return Ok(session.clone());
        }
        state.session = None;
        if let Some((until, why)) = &state.failed
            && Instant::now() < *until
        {
            return Err(Fault::Unsent(why.clone()));
        }
        match self.ground.connect(self.limit, None).await {
            Ok(session) => {
                *state = State {
                    session: Some(session.clone()),
                    ..State::default()
                };
                Ok(session)
            }
            Err(fault) => {
                let why = StoreError::from(fault);
                let rest = backoff(state.failures);
                state.failures = state.failures.saturating_add(1);
                state.failed = Some((Instant::now() + rest, why.clone()));
                Err(Fault::Unsent(why))
            }
        }
    }
}

/// The wait after so many failures, with jitter over its upper half.
pub(super) fn backoff(failures: u32) -> Duration {
    let doubled = BACKOFF.saturating_mul(1 << failures.min(10));
    doubled
        .min(BACKOFF_MAX)
        .mul_f64(0.5 + rand::random::<f64>() / 2.0)
}
