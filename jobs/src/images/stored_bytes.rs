use sqlx::PgPool;

/// Sum of the bytes of an owner's stored images.
///
/// # Errors
/// Postgres is away.
pub async fn stored_bytes(db: &PgPool, owner: &str) -> Result<i64, sqlx::Error> {
    let bytes = sqlx::query_scalar!(
        r#"select coalesce(sum(bytes), 0)::bigint as "bytes!" from images where owner = $1 and purged_at is null"#,
        owner
    );
    bytes.fetch_one(db).await
}
