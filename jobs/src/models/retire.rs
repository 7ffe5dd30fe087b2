use sqlx::PgPool;

/// What came of retiring a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetireOutcome {
    /// No new job may name it.
    Done,
    NotFound,
    /// An alias means it, and has to be moved first.
    Aliased,
}

/// Lets no new job name this version; repeating is fine. `actor`: who does it, for the audit.
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
