use sqlx::PgPool;

/// Notes that these keys were used now. Keys that another process notes at this moment are left to that process.
///
/// # Errors
/// Postgres is away.
pub async fn note_uses(db: &PgPool, key_ids: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update api_keys k set last_used_at = now()
         from (select key_id from api_keys where key_id = any($1) for no key update skip locked) used
         where k.key_id = used.key_id",
        key_ids
    )
    .execute(db)
    .await?;
    Ok(())
}
