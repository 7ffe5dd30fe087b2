use sqlx::PgPool;

use super::QueueError;

/// Removes some of the tombstones that are older than `tombstone_seconds`. Call it again until it returns 0. Returns how many
/// were removed.
///
/// # Errors
/// Postgres is away.
pub async fn prune(db: &PgPool, tombstone_seconds: f64) -> Result<u64, QueueError> {
    let pruned = sqlx::query_file_scalar!("src/queue/prune.sql", tombstone_seconds);
    Ok(pruned.fetch_one(db).await?.cast_unsigned())
}

/// Drops the days that contain only such tombstones, which is much cheaper than row by row. Returns how many days.
///
/// # Errors
/// Postgres is away.
pub async fn prune_days(db: &PgPool, tombstone_seconds: f64) -> Result<i32, QueueError> {
    let days = sqlx::query_scalar!(
        r#"select prune_partitions(make_interval(secs => $1)) as "days!""#,
        tombstone_seconds
    );
    Ok(days.fetch_one(db).await?)
}
