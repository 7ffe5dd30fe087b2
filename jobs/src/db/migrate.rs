use std::collections::HashMap;

use sqlx::{
    PgConnection, PgPool,
    migrate::{Migrate, MigrateError, Migration},
};

use super::{Db, DbConfig, PoolingMode, with_advice};

/// Brings the schema up to date, unless the configuration forbids it. A schema with unknown migrations is fine: a later
/// version made them, and schemas only grow.
///
/// Several processes may call this at once: an advisory lock orders them. If no migration is missing the lock is not taken,
/// because the connection of a vanished process may hold it for long.
///
/// # Errors
/// Postgres is away, or a migration failed.
pub async fn migrate(db: &Db, config: &DbConfig) -> Result<(), MigrateError> {
    if config.no_migrate {
        return Ok(());
    }
    migrate_now(db).await
}

/// As [`migrate`], but even if the configuration forbids it.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_now(db: &Db) -> Result<(), MigrateError> {
    let pool = session_pool(db);
    let mut connection = pool.acquire().await.map_err(with_advice)?;
    if is_up_to_date(&mut connection).await? {
        return Ok(());
    }
    let migrated = crate::MIGRATOR.run(&mut *connection).await;
    if migrated.is_err() {
        // Closes the connection, so that Postgres releases the advisory lock.
        drop(connection.detach());
    }
    migrated
}

/// A pool whose connections are sessions: the advisory lock of the migrations belongs to a session.
fn session_pool(db: &Db) -> PgPool {
    match db.mode() {
        PoolingMode::Session => db.pool().clone(),
        PoolingMode::Transaction { direct } => {
            direct.one_connection(db.options().get_acquire_timeout())
        }
    }
}

/// A migration whose text has changed counts as missing: the migrator then refuses it.
async fn is_up_to_date(db: &mut PgConnection) -> Result<bool, MigrateError> {
    let table = "_sqlx_migrations";
    let exists = sqlx::query_scalar("select to_regclass($1) is not null").bind(table);
    if !exists.fetch_one(&mut *db).await? || db.dirty_version(table).await?.is_some() {
        return Ok(false);
    }
    let applied = db.list_applied_migrations(table).await?;
    let applied: HashMap<_, _> = applied
        .iter()
        .map(|migration| (migration.version, &migration.checksum))
        .collect();
    let is_applied = |migration: &Migration| {
        applied.get(&migration.version).copied() == Some(&migration.checksum)
    };
    Ok(crate::MIGRATOR.iter().all(is_applied))
}

/// Makes the partitions of the next days. Returns how many were made.
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
