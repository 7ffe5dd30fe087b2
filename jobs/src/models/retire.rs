use sqlx::PgPool;

/// Result of [`retire`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetireOutcome {
    /// No new job may name the version.
    Done,
    NotFound,
    /// Aliases mean the version: move or delete them first. Sorted; empty if they went to the version at this moment.
    Aliased {
        aliases: Vec<String>,
    },
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
    let retired = sqlx::query!(
        r#"select audited('retire_version', $1, jsonb_build_object('version', $2::int), retire_model_version($1, $2), $3) as "outcome!",
                  array(select a.alias from model_aliases a join model_versions v using (model_version_id) join models m on m.model_id = v.model_id
                        where m.name = $1 and v.version = $2 order by a.alias) as "aliases!""#,
        model,
        version,
        actor
    );
    let row = retired.fetch_one(db).await?;
    Ok(match row.outcome.as_str() {
        "retired" => RetireOutcome::Done,
        "not found" => RetireOutcome::NotFound,
        _ => RetireOutcome::Aliased {
            aliases: row.aliases,
        },
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
