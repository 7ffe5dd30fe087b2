use sqlx::PgPool;

/// Sum of the bytes of an owner's stored images, and of signed uploads that are no image yet.
///
/// # Errors
/// Postgres is away.
pub async fn stored_bytes(db: &PgPool, owner: &str) -> Result<i64, sqlx::Error> {
    let bytes = sqlx::query_scalar!(
        r#"select (select coalesce(sum(bytes), 0) from images where owner = $1 and purged_at is null)::bigint
              + (select coalesce(sum(bytes), 0) from signed_uploads where owner = $1 and named_at is null)::bigint as "bytes!""#,
        owner
    );
    bytes.fetch_one(db).await
}
