use sqlx::PgPool;

/// Removes some of the deliveries that ended more than `kept_seconds` ago. Call it again until it returns 0. Returns how many
/// were removed.
///
/// # Errors
/// Postgres is away.
pub async fn prune_deliveries(db: &PgPool, kept_seconds: f64) -> Result<u64, sqlx::Error> {
    let pruned = sqlx::query!(
        "delete from webhook_deliveries where delivery_id in (
             select delivery_id from webhook_deliveries where ended_at < now() - make_interval(secs => $1)
             order by ended_at limit 1000 for update skip locked)",
        kept_seconds
    );
    Ok(pruned.execute(db).await?.rows_affected())
}
