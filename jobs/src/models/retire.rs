use sqlx::PgPool;

/// Result of [`retire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetireOutcome {
    /// No new job may name the version.
    Done,
    NotFound,
    /// An alias means the version: move the alias first.
    Aliased,
}

/// Retires a version: no new job may name it. Idempotent. `actor` is the name for the audit.
///
/// # Errors
/// Postgres is away.
pub async fn retire(
    db: &PgPool,
    model: &str,
    version: i32,
    actor: &str,
) -> Result<RetireOutcome, sqlx::Error> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('retire_version', $1, jsonb_build_object('version', $2::int), retire_model_version($1, $2), $3) as "outcome!""#,
        model,
        version,
        actor
    );
    Ok(match outcome.fetch_one(db).await?.as_str() {
        "retired" => RetireOutcome::Done,
        "not found" => RetireOutcome::NotFound,
        _ => RetireOutcome::Aliased,
    })
}

/// Takes back [`retire`]: new jobs may name the version again. Idempotent; `false` if there is no such version.
///
/// # Errors
/// Postgres is away.
pub async fn unretire(
    db: &PgPool,
    model: &str,
    version: i32,
    actor: &str,
) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('unretire_version', $1, jsonb_build_object('version', $2::int), unretire_model_version($1, $2), $3) as "outcome!""#,
        model,
        version,
        actor
    );
    Ok(outcome.fetch_one(db).await? == "unretired")
}
