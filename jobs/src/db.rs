//! The connection pool, its time-outs, and the migrations.

mod adopt;
mod direct_connector;
mod executor;
mod migrate;
mod password;
mod pooler;
mod readiness;
mod reads;
mod statement_pool;
mod suspects;
mod trouble;
mod url;

use std::{
    error::Error,
    ops::Deref,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use sqlx::{
    PgConnection, PgPool,
    pool::PoolConnectionMetadata,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use self::{
    adopt::{adopt_cluster, adopt_if_moved},
    direct_connector::DirectConnector,
    migrate::{make_partitions, migrate, migrate_now},
    readiness::NotReady,
    reads::{Reads, ReadsConfig},
    statement_pool::{PooledConnection, StatementPool},
    suspects::note_error,
    trouble::{Trouble, advice, is_stale_plan},
};
use self::{password::PasswordFile, readiness::LoginCheck};
pub(crate) use self::{pooler::with_advice, readiness::takes_writes};
use crate::Secret;

/// Where Postgres is and how much of it one process may take.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct DbConfig {
    /// Postgres 15 or later: `postgres://user:password@host:port/database`, with one host
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
    /// Postgres itself, where `DATABASE_URL` leads to a pooler in transaction mode (PgBouncer 1.21 or later): LISTEN and
    /// migrations go there
    ///
    /// A pooler takes no settings of a session: the role of `DATABASE_URL` has to have them (docs/sql.md, "Behind PgBouncer").
    #[arg(long, env = "DATABASE_DIRECT_URL", hide_env_values = true)]
    pub database_direct_url: Option<Secret>,
    /// File with the password for both URLs. It is read again when it changes, so that a password can be rotated without a
    /// restart
    #[arg(long, env = "DATABASE_PASSWORD_FILE")]
    pub database_password_file: Option<PathBuf>,
    /// Most connections of this process
    #[arg(long, env = "DARKROOM_DB_CONNECTIONS_MAX", default_value_t = 10)]
    pub db_connections_max: u32,
    /// How long to wait for a free connection before the service counts as unavailable, in milliseconds
    #[arg(long, env = "DARKROOM_DB_ACQUIRE_TIMEOUT_MS", default_value_t = 5_000)]
    pub db_acquire_timeout_ms: u64,
    /// Longest time of one statement, in milliseconds
    #[arg(
        long,
        env = "DARKROOM_DB_STATEMENT_TIMEOUT_MS",
        default_value_t = 30_000
    )]
    pub db_statement_timeout_ms: u64,
    /// Leave the schema alone at start: the migrations run elsewhere
    #[arg(long, env = "DARKROOM_NO_MIGRATE")]
    pub no_migrate: bool,
}

impl DbConfig {
    /// The URL of Postgres itself, if `database_url` leads to a pooler. An empty variable counts as unset.
    fn direct_url(&self) -> Option<&Secret> {
        let url = self.database_direct_url.as_ref();
        url.filter(|url| !url.expose().is_empty())
    }
}

/// The database of a process: a connection pool, and what the pool does not know about its connections. Cheap to clone.
///
/// Dereferences to the pool and is an [`Executor`](sqlx::Executor) as the pool is.
#[derive(Debug, Clone)]
pub struct Db {
    pool: PgPool,
    /// The server cancels a statement after this time.
    statement_timeout: Duration,
    mode: PoolingMode,
    login: Arc<LoginCheck>,
}

/// How long a connection of Postgres belongs to one connection of the pool.
#[derive(Debug, Clone)]
pub enum PoolingMode {
    /// For the whole session: there is no pooler between this process and Postgres.
    Session,
    /// For one transaction: a pooler decides anew each time (docs/adr/0017-behind-a-pooler.md).
    Transaction {
        /// The way past the pooler.
        direct: DirectConnector,
    },
}

impl Db {
    /// Makes the pool. Connections are opened on demand, so this succeeds without a server.
    ///
    /// # Errors
    /// A URL cannot be read, or has settings that a pooler would refuse.
    pub fn connect(config: &DbConfig, application: &str) -> Result<Self, sqlx::Error> {
        let password = PasswordFile::read(config.database_password_file.as_deref())?;
        let statement_timeout = Duration::from_millis(config.db_statement_timeout_ms);
        let acquire_timeout = Duration::from_millis(config.db_acquire_timeout_ms);
        let (options, mode) = match config.direct_url() {
            None => {
                let url = url::parse(&config.database_url, "DATABASE_URL")?;
                (
                    session_options(url, config, application),
                    PoolingMode::Session,
                )
            }
            Some(url) => {
                let url = url::parse(url, "DATABASE_DIRECT_URL")?;
                let direct = session_options(url, config, application);
                let direct = DirectConnector::new(password.set_in(direct));
                let options = pooler::options(config, application)?;
                (options, PoolingMode::Transaction { direct })
            }
        };
        let ping_timeout = mode.ping_timeout(acquire_timeout);
        // `begin` first: a rollback outside a transaction is a warning in the server's log, one for each statement. Inside a
        // failed transaction `begin` fails, and the pool closes the connection. [`StatementPool`] may have changed settings.
        let reset = match mode {
            PoolingMode::Session => "begin; rollback; reset all",
            // The session belongs to the pooler: its settings are not ours to reset.
            PoolingMode::Transaction { .. } => "begin; rollback",
        };
        let pool = PgPoolOptions::new()
            .max_connections(config.db_connections_max)
            .acquire_timeout(acquire_timeout)
            // A ping before each statement would be one more round trip; `before_acquire` pings idle connections only.
            .test_before_acquire(false)
            .before_acquire(move |connection, metadata| {
                Box::pin(may_be_used(connection, metadata, ping_timeout))
            })
            // A `begin` whose future was dropped may leave a connection inside a transaction (sqlx #4393). An actix handler
            // is dropped when its client disconnects.
            .after_release(move |connection, _| {
                Box::pin(async move {
                    let reset = sqlx::raw_sql(reset).execute(connection);
                    // The reset waits for a statement that still runs. A half-open connection must not keep its place in
                    // the pool for ever.
                    match tokio::time::timeout(statement_timeout + ROUND_TRIP_MAX, reset).await {
                        Ok(done) => done.map(|_| true),
                        Err(_) => Err(no_answer()),
                    }
                })
            })
            .connect_lazy_with(password.set_in(options));
        let db = Self::from_pool(pool, statement_timeout, mode);
        password.follow(vec![db.pool.clone(), db.direct().into_options()]);
        Ok(db)
    }

    /// A pool that was made elsewhere. `statement_timeout` is the one that its connections have.
    pub fn from_pool(pool: PgPool, statement_timeout: Duration, mode: PoolingMode) -> Self {
        Self {
            pool,
            statement_timeout,
            mode,
            login: Arc::default(),
        }
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    pub fn mode(&self) -> &PoolingMode {
        &self.mode
    }

    /// How to connect to Postgres itself, for what needs a session.
    pub fn direct(&self) -> DirectConnector {
        match &self.mode {
            PoolingMode::Session => DirectConnector::with_options_of(self.pool.clone()),
            PoolingMode::Transaction { direct } => direct.clone(),
        }
    }

    /// How long a pooled connection may take to answer a ping.
    fn ping_timeout(&self) -> Duration {
        self.mode
            .ping_timeout(self.pool.options().get_acquire_timeout())
    }
}

impl PoolingMode {
    fn ping_timeout(&self, acquire_timeout: Duration) -> Duration {
        match self {
            Self::Session => PING_TIMEOUT,
            // A pooler answers only when it has a connection of Postgres to spare.
            Self::Transaction { .. } => acquire_timeout,
        }
    }

    fn is_transaction(&self) -> bool {
        matches!(self, Self::Transaction { .. })
    }
}

impl Deref for Db {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

/// A connection that was idle for so long is pinged before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// How long Postgres may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a statement and its answer may travel.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// Whether the pool may lend a connection. A connection that leads to a server without writes is closed: after a failover the
/// next one leads to the primary.
async fn may_be_used(
    connection: &mut PgConnection,
    metadata: PoolConnectionMetadata,
    ping_timeout: Duration,
) -> Result<bool, sqlx::Error> {
    let opened_at = Instant::now().checked_sub(metadata.age);
    if opened_at.is_some_and(suspects::is_suspect) {
        return Ok(false);
    }
    if metadata.idle_for < PING_AFTER_IDLE {
        return Ok(true);
    }
    // A half-open connection must leave time to find another one.
    match tokio::time::timeout(ping_timeout, takes_writes(connection)).await {
        Ok(Ok(false)) => {
            suspects::suspect_connections();
            Ok(false)
        }
        Ok(answer) => answer,
        Err(_) => Err(no_answer()),
    }
}

/// Options of a connection to Postgres itself, with the settings of its session. docs/sql.md lists them for a role.
fn session_options(
    url: PgConnectOptions,
    config: &DbConfig,
    application: &str,
) -> PgConnectOptions {
    let statement_timeout = config.db_statement_timeout_ms.to_string();
    let options = url.application_name(application);
    options.options([
        ("statement_timeout", statement_timeout.as_str()),
        // The statements are written for this level. At a stricter one claims of two workers would abort each other.
        ("default_transaction_isolation", "read committed"),
        ("idle_in_transaction_session_timeout", "60000"),
        // Row locks of a client that vanished during a statement last as long as its connection. By its own rules TCP
        // would notice after hours.
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "25000"),
        ("client_connection_check_interval", "5000"),
        // Notices are for people at a terminal.
        ("client_min_messages", "error"),
        // Where a disabled scan is the only plan its estimated cost is huge, and JIT would compile it.
        ("jit", "off"),
    ])
}

fn no_answer() -> sqlx::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "Postgres does not answer").into()
}

/// Waits for the answer to a statement, but no longer than an answer can take: the time to acquire a connection, the
/// statement time-out, and a second. Later none can come: the connection is half-open, and TCP would report that after a
/// quarter of an hour at best.
///
/// # Errors
/// Those of `statement`; [`sqlx::Error::Io`] without an answer: it is not known whether the statement was executed.
pub async fn answered<T, E: From<sqlx::Error> + Error + 'static>(
    db: &Db,
    statement: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let acquire_timeout = db.pool.options().get_acquire_timeout();
    let longest = acquire_timeout + db.statement_timeout + ROUND_TRIP_MAX;
    let answer = tokio::time::timeout(longest, statement).await;
    let answer = answer.unwrap_or_else(|_| Err(no_answer().into()));
    answer.inspect_err(|error| note_error(error))
}

/// Whether an error of the server may pass: [`Trouble`] lists why.
pub fn is_passing(error: &dyn sqlx::error::DatabaseError) -> bool {
    Trouble::of_database_error(error).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Db, DbConfig, PoolingMode};
    use crate::Secret;

    pub(super) fn config(url: &str, direct_url: Option<&str>) -> DbConfig {
        DbConfig {
            database_url: Secret::new(url),
            database_direct_url: direct_url.map(Secret::new),
            database_password_file: None,
            db_connections_max: 4,
            db_acquire_timeout_ms: 5_000,
            db_statement_timeout_ms: 70_000,
            no_migrate: true,
        }
    }

    pub(super) const POOLER: &str = "postgres://one@localhost:6432/darkroom";
    pub(super) const POSTGRES: &str = "postgres://one@localhost:5432/darkroom";

    #[tokio::test]
    async fn the_longest_time_of_a_statement_is_known_on_both_ways() {
        for direct_url in [None, Some(POSTGRES)] {
            let db = Db::connect(&config(POOLER, direct_url), "test").expect("good URLs");
            assert_eq!(db.statement_timeout(), Duration::from_secs(70));
            assert_eq!(db.mode().is_transaction(), direct_url.is_some());
        }
    }

    #[tokio::test]
    async fn a_direct_url_that_is_empty_is_none() {
        let db = Db::connect(&config(POSTGRES, Some("")), "test").expect("good URLs");
        assert!(matches!(db.mode(), PoolingMode::Session));
    }
}
