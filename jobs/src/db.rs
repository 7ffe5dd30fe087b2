//! The Postgres pool and the migrations.

use std::{str::FromStr, time::Duration};

use clap::Args;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::Secret;

/// Where Postgres is and how much of it one process may take.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct DbConfig {
    /// Postgres 15 or later: `postgres://user:password@host:port/database`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
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

/// Opens the pool: connections come on demand, so this succeeds without a server.
///
/// # Errors
/// The URL cannot be read.
pub fn connect(config: &DbConfig, application: &str) -> Result<PgPool, sqlx::Error> {
    let statement_timeout = config.db_statement_timeout_ms.to_string();
    let options = PgConnectOptions::from_str(config.database_url.expose())?
        .application_name(application)
        .options([
            ("statement_timeout", statement_timeout.as_str()),
            ("idle_in_transaction_session_timeout", "60000"),
            // The rollback below warns whenever there is nothing to roll back: nearly always.
            ("client_min_messages", "error"),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(config.db_connections_max)
        .acquire_timeout(Duration::from_millis(config.db_acquire_timeout_ms))
        // A `begin` whose future was dropped may come back inside an open transaction (sqlx #4393), and an actix handler
        // is dropped when its client leaves.
        .after_release(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql("rollback").execute(connection).await?;
                Ok(true)
            })
        })
        .connect_lazy_with(options))
}

/// Brings the schema up to date, unless told not to. Several processes may do so at once: an advisory lock orders them.
///
/// # Errors
/// Postgres is away, or a migration failed.
pub async fn migrate(db: &PgPool, config: &DbConfig) -> Result<(), sqlx::migrate::MigrateError> {
    if config.no_migrate {
        return Ok(());
    }
    crate::MIGRATOR.run(db).await
}

/// Makes the partitions of the next days.
///
/// # Errors
/// Postgres is away or refuses.
pub async fn make_partitions(db: &PgPool, days_ahead: i32) -> Result<i32, sqlx::Error> {
    let made = sqlx::query_scalar!(r#"select make_partitions($1) as "made!""#, days_ahead);
    made.fetch_one(db).await
}
