use sqlx::PgPool;

/// Revokes a key permanently; idempotent. Returns whether the key exists. `actor` is the name for the audit.
///
/// # Errors
/// Postgres is away.
pub async fn revoke(db: &PgPool, key_id: &str, actor: &str) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('revoke_key', $1, '{}', revoke_api_key($1), $2) as "outcome!""#,
        key_id,
        actor
    );
    Ok(outcome.fetch_one(db).await? == "revoked")
}
