//! The Postgres pool and the migrations.

mod kept;
mod pooler;

use std::{collections::HashMap, str::FromStr, time::Duration};

use clap::Args;
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{Migrate, MigrateError, Migration},
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use self::kept::{Kept, Lent};
pub use self::pooler::Direct;
pub(crate) use self::pooler::advised;
use crate::Secret;

/// Where Postgres is and how much of it one process may take.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct DbConfig {
    /// Postgres 15 or later: `postgres://user:password@host:port/database`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
    /// Postgres itself, where `DATABASE_URL` leads to a pooler in transaction mode (PgBouncer 1.21 or later): LISTEN and
    /// migrations go there
    ///
    /// A pooler takes no settings of a session: the role of `DATABASE_URL` has to have them (docs/sql.md, "Behind PgBouncer").
    #[arg(long, env = "DATABASE_DIRECT_URL", hide_env_values = true)]
    pub database_direct_url: Option<Secret>,
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
    /// Leave the schema alone at start: somebody else runs the migrations
    #[arg(long, env = "DARKROOM_NO_MIGRATE")]
    pub no_migrate: bool,
}

impl DbConfig {
    /// Set only where `database_url` leads to a pooler; a variable that is there and empty counts as none.
    fn direct_url(&self) -> Option<&Secret> {
        let url = self.database_direct_url.as_ref();
        url.filter(|url| !url.expose().is_empty())
    }
}

/// Opens the pool: connections come on demand, so this succeeds without a server.
///
/// # Errors
/// The URL cannot be read, or has settings that a pooler would refuse.
pub fn connect(config: &DbConfig, application: &str) -> Result<PgPool, sqlx::Error> {
    let statement_max = Duration::from_millis(config.db_statement_timeout_ms);
    let is_pooled = config.direct_url().is_some();
    let (options, reset) = if is_pooled {
        // No session is ours: `reset all` were one of anybody's.
        (pooler::options(config, application)?, "begin; rollback")
    } else {
        let own = session(&config.database_url, config, application)?;
        (own, "begin; rollback; reset all")
    };
    let acquire_timeout = Duration::from_millis(config.db_acquire_timeout_ms);
    // A pooler answers when it has a connection of Postgres to spare.
    let patience = if is_pooled { acquire_timeout } else { PATIENCE };
    let mut pool = PgPoolOptions::new()
        .max_connections(config.db_connections_max)
        .acquire_timeout(acquire_timeout)
        // Busy connections are not asked whether they live: that would be one more trip for each statement.
        .test_before_acquire(false)
        .before_acquire(move |connection, about| {
            Box::pin(async move {
                if about.idle_for < ASKED_AFTER {
                    return Ok(true);
                }
                // One that leads nowhere must not use up all the time there is to find another.
                match tokio::time::timeout(patience, connection.ping()).await {
                    Ok(answer) => answer.map(|()| true),
                    Err(_) => Err(no_answer()),
                }
            })
        })
        // A `begin` whose future was dropped may come back inside an open transaction (sqlx #4393), and an actix handler
        // is dropped when its client leaves. [`Kept`] may have changed its settings. `begin` first: to roll back where nothing
        // is open, which is nearly always, is a warning in the server's log, one for each statement. Inside a transaction that
        // failed it fails, and the connection is closed.
        .after_release(move |connection, _| {
            Box::pin(async move {
                let reset = sqlx::raw_sql(reset).execute(connection);
                // Behind the statement that nobody waits for any more, if there is one. Without an end a connection that
                // leads nowhere would keep its place in the pool for good.
                match tokio::time::timeout(statement_max + MARGIN, reset).await {
                    Ok(done) => done.map(|_| true),
                    Err(_) => Err(no_answer()),
                }
            })
        });
    if is_pooled {
        // Where `statement_max()` finds it, since there are no options to read it from.
        pool = pool.acquire_slow_threshold(statement_max);
    }
    Ok(pool.connect_lazy_with(options))
}

/// To Postgres itself, with the settings of our sessions. docs/sql.md has the same for a role.
fn session(
    url: &Secret,
    config: &DbConfig,
    application: &str,
) -> Result<PgConnectOptions, sqlx::Error> {
    let statement_timeout = config.db_statement_timeout_ms.to_string();
    let options = PgConnectOptions::from_str(url.expose())?.application_name(application);
    Ok(options.options([
        ("statement_timeout", statement_timeout.as_str()),
        ("idle_in_transaction_session_timeout", "60000"),
        // A client that vanished in the middle of a statement: its row locks go with its connection, and TCP by itself
        // would take hours to notice.
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "25000"),
        ("client_connection_check_interval", "5000"),
        // Notices are for people at a terminal.
        ("client_min_messages", "error"),
        // A scan that was forbidden and is the only way counts as very dear, and would be compiled first.
        ("jit", "off"),
    ]))
}

/// A connection that was idle for so long is asked whether it lives before it is used.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// For the way there and back.
const MARGIN: Duration = Duration::from_secs(1);

fn no_answer() -> sqlx::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "Postgres does not answer").into()
}

/// Waits for an answer no longer than the server works on a statement. After that none can come: the connection leads
/// nowhere, and TCP would tell in a quarter of an hour at best.
///
/// # Errors
/// Those of `statement`; [`sqlx::Error::Io`] without an answer: it is not known whether the statement was executed.
pub async fn answered<T, E: From<sqlx::Error>>(
    db: &PgPool,
    statement: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let longest = db.options().get_acquire_timeout() + statement_max(db) + MARGIN;
    let answer = tokio::time::timeout(longest, statement).await;
    answer.unwrap_or_else(|_| Err(no_answer().into()))
}

/// Faults of the server that pass: it is starting, stopping, out of connections or disk, took too long, or chose this
/// transaction as the victim. By the class of their code: 08 connection, 40 roll-back, 53 resources, 55P03 a lock that did
/// not come, 57 operator, 58 system.
pub fn is_passing(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| {
        ["08", "40", "53", "55P03", "57", "58"]
            .iter()
            .any(|class| code.starts_with(class))
    })
}

/// As [`connect`] has put it there.
fn statement_max(db: &PgPool) -> Duration {
    match db.connect_options().get_options() {
        Some(options) => statement_timeout(options),
        None => db.options().get_acquire_slow_threshold(),
    }
}

fn statement_timeout(options: &str) -> Duration {
    let words = options.split_whitespace();
    let ms = words
        .filter_map(|word| word.strip_prefix("statement_timeout="))
        .find_map(|ms| ms.parse().ok());
    Duration::from_millis(ms.unwrap_or(30_000))
}

/// Brings the schema up to date, unless told not to. One that has more than this program knows of is fine: it was brought
/// further by a later version, and schemas only grow. Several processes may do so at once: an advisory lock orders them.
/// Where nothing is missing nobody takes it: its last holder may have vanished, and its connection live on for long.
///
/// # Errors
/// Postgres is away, or a migration failed.
pub async fn migrate(db: &PgPool, config: &DbConfig) -> Result<(), MigrateError> {
    if config.no_migrate {
        return Ok(());
    }
    migrate_now(db, config).await
}

/// The same, whatever the configuration says of whether.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_now(db: &PgPool, config: &DbConfig) -> Result<(), MigrateError> {
    let db = with_sessions(db, config)?;
    let mut connection = db.acquire().await.map_err(advised)?;
    if is_up_to_date(&mut connection).await? {
        return Ok(());
    }
    let migrated = crate::MIGRATOR.run(&mut *connection).await;
    if migrated.is_err() {
        // The lock goes with its connection, not back to the pool.
        drop(connection.detach());
    }
    migrated
}

/// The lock of the migrations is a session's.
fn with_sessions(db: &PgPool, config: &DbConfig) -> Result<PgPool, sqlx::Error> {
    if config.direct_url().is_none() {
        return Ok(db.clone());
    }
    let options = db.connect_options();
    let application = options.get_application_name().unwrap_or_default();
    let patience = db.options().get_acquire_timeout();
    Ok(Direct::of(config, application)?.one_connection(patience))
}

/// A migration whose text has changed since counts as missing: the migrator refuses it.
async fn is_up_to_date(db: &mut PgConnection) -> Result<bool, MigrateError> {
    let table = "_sqlx_migrations";
    let is_there = sqlx::query_scalar("select to_regclass($1) is not null").bind(table);
    if !is_there.fetch_one(&mut *db).await? || db.dirty_version(table).await?.is_some() {
        return Ok(false);
    }
    let applied = db.list_applied_migrations(table).await?;
    let applied: HashMap<_, _> = applied
        .iter()
        .map(|one| (one.version, &one.checksum))
        .collect();
    let is_there = |one: &Migration| applied.get(&one.version).copied() == Some(&one.checksum);
    Ok(crate::MIGRATOR.iter().all(is_there))
}

/// Makes the partitions of the next days.
///
/// # Errors
/// Postgres is away or refuses.
pub async fn make_partitions(db: &PgPool, days_ahead: i32) -> Result<i32, sqlx::Error> {
    let made = sqlx::query_scalar!(
        r#"select make_partitions($1) + make_event_partitions($1) as "made!""#,
        days_ahead
    );
    made.fetch_one(db).await
}
